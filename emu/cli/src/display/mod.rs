//! `--display terminal`: the VGA's screen on the terminal that pagewalk runs on, and that terminal's keys as a PC keyboard.

pub mod canvas;
pub mod graphics;
pub mod input;
pub mod text;

use std::io::{ErrorKind, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use crossterm::terminal::size;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::observe::Observer;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::console::escape::{self, Command, Escape, Pressed};
use crate::console::terminal::{Terminal, Use};
use crate::script::Script;
use canvas::{BLANK, Canvas, Colour, Spot};

/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// Drawing takes at most this part of the time.
const MOST_OF_TIME: u32 = 5;
/// The least time between two looks at the keyboard.
const LOOK: Duration = Duration::from_millis(4);
/// How long a message stays.
const MESSAGE_TIME: Duration = Duration::from_secs(6);
const STATUS_LINE: Spot = Spot { front: Colour::Index(0), back: Colour::Index(7), ..BLANK };

/// What colours the terminal has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Palette {
    /// All.
    Full,
    /// 256, of which the first 16 are the person's choice.
    Indexed,
}

impl Palette {
    /// As the environment says: terminals that have all colours set COLORTERM.
    fn of_terminal() -> Palette {
        let said = std::env::var("COLORTERM").unwrap_or_default();
        if said.contains("truecolor") || said.contains("24bit") { Palette::Full } else { Palette::Indexed }
    }
}

/// The screen on a terminal.
pub struct Display {
    terminal: Terminal,
    palette: Palette,
    columns: usize,
    rows: usize,
    /// What the terminal shows; `None` if that is not known.
    shown: Option<Canvas>,
    next_frame: Instant,
    next_look: Instant,
    message: Option<(String, Instant)>,
    /// A page of text instead of the screen, until the next key.
    page: Option<Vec<String>>,
    escape: Escape,
    /// Strokes on their way to the guest.
    typed: Script,
}

impl Display {
    /// Takes the terminal.
    pub fn open() -> Result<Display> {
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            bail!(
                "--display terminal needs standard input and output to be a terminal; use --screenshot or --screen without one"
            );
        }
        let (columns, rows) = size().context("cannot ask for the terminal's size")?;
        let now = Instant::now();
        Ok(Display {
            terminal: Terminal::take(Use::Screen)?,
            palette: Palette::of_terminal(),
            columns: columns.into(),
            rows: rows.into(),
            shown: None,
            next_frame: now,
            next_look: now,
            message: None,
            page: None,
            escape: Escape::default(),
            typed: Script::default(),
        })
    }

    /// Takes in keys and draws, each when it is time. Says whether the guest was given anything; commands are added to
    /// `commands`.
    pub fn exchange<O: Observer>(
        &mut self,
        machine: &mut Machine<O>,
        commands: &mut impl Extend<Command>,
    ) -> Result<bool> {
        let now = Instant::now();
        if now >= self.next_look {
            self.look(commands)?;
            self.next_look = now + LOOK;
        }
        let given = self.typed.play(machine, false);
        if now >= self.next_frame {
            self.draw(machine)?;
            let took = now.elapsed();
            self.next_frame = now + FRAME.max(took * MOST_OF_TIME);
        }
        Ok(given)
    }

    /// Types what waits although no time passes.
    pub fn hurry<O: Observer>(&mut self, machine: &mut Machine<O>) -> bool {
        self.typed.play(machine, true)
    }

    /// Waits until something comes in, or this long.
    pub fn wait(&mut self, time: Duration) {
        let stdin = std::io::stdin();
        let mut wanted = [PollFd::new(&stdin, PollFlags::IN)];
        let time = Timespec::try_from(time).unwrap_or_default();
        // what is wrong with the terminal shows when it is looked at
        if rustix::event::poll(&mut wanted, Some(&time)).is_ok_and(|ready| ready > 0) {
            self.next_look = Instant::now();
        }
    }

    /// Tells the person something.
    pub fn tell(&mut self, text: &str) {
        self.message = Some((text.to_string(), Instant::now()));
        self.next_frame = Instant::now();
    }

    /// Shows a page of text until the next key.
    pub fn show_page(&mut self, lines: Vec<String>) {
        self.page = Some(lines);
        self.next_frame = Instant::now();
    }

    fn look(&mut self, commands: &mut impl Extend<Command>) -> Result<()> {
        loop {
            if hung_up() {
                bail!("the terminal is gone");
            }
            match event::poll(Duration::ZERO) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(error).context("cannot read the terminal"),
            }
            match event::read().context("cannot read the terminal")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    if self.page.take().is_some() {
                        self.next_frame = Instant::now();
                        continue;
                    }
                    self.press(key, commands);
                }
                Event::Resize(columns, rows) => {
                    (self.columns, self.rows) = (columns.into(), rows.into());
                    self.shown = None;
                    self.next_frame = Instant::now();
                }
                _ => {}
            }
        }
    }

    fn press(&mut self, key: KeyEvent, commands: &mut impl Extend<Command>) {
        let pressed = match input::byte(key) {
            Some(byte) => self.escape.press(byte),
            None => {
                // no command is on such a key
                self.escape = Escape::default();
                Pressed::Guest(0)
            }
        };
        match pressed {
            Pressed::Guest(_) => match input::stroke(key) {
                Some(stroke) => self.typed.push(stroke),
                None => self.tell("the US keyboard that the guest has lacks this key"),
            },
            Pressed::Waits => {}
            Pressed::Command(command) => commands.extend([command]),
            Pressed::Unknown(key) => self.tell(&escape::unknown(key)),
        }
    }

    fn draw<O: Observer>(&mut self, machine: &Machine<O>) -> Result<()> {
        if self.terminal.take_stale() {
            if let Ok((columns, rows)) = size() {
                (self.columns, self.rows) = (columns.into(), rows.into());
            }
            self.shown = None;
        }
        let canvas = self.canvas(machine);
        let changes = canvas.changes(self.shown.as_ref());
        if !changes.is_empty() {
            self.terminal.draw(changes.as_bytes()).context("cannot draw on the terminal")?;
            self.shown = Some(canvas);
        }
        Ok(())
    }

    fn canvas<O: Observer>(&mut self, machine: &Machine<O>) -> Canvas {
        let mut canvas = Canvas::new(self.columns, self.rows);
        let rows = self.rows.saturating_sub(1);
        let bus = &machine.processor.cpu.bus;
        let mode = if let Some(page) = &self.page {
            for (row, line) in page.iter().take(rows).enumerate() {
                canvas.write(row, 0, line, BLANK);
            }
            "any key: back to the screen".to_string()
        } else if let Some(screen) = bus.text_screen() {
            let whole = text::draw(&screen, self.palette, &mut canvas, rows);
            let part = if whole { "" } else { ", a part of it" };
            format!("text {}x{}{part}", screen.columns, screen.rows())
        } else {
            let picture = bus.picture();
            graphics::draw(&picture, self.palette, &mut canvas, rows);
            format!("graphics {}x{}, scaled; Ctrl-A s writes a picture", picture.width, picture.height)
        };
        if self.message.as_ref().is_some_and(|(_, since)| since.elapsed() > MESSAGE_TIME) {
            self.message = None;
        }
        let said = self.message.as_ref().map_or(mode.as_str(), |(message, _)| message);
        let line = format!(" pagewalk  {said}");
        let keys = "Ctrl-A h help  Ctrl-A x leave ";
        let gap = self.columns.saturating_sub(line.chars().count() + keys.len());
        let keys = if gap == 0 { "" } else { keys };
        canvas.write(rows, 0, &format!("{line}{:gap$}{keys:<1$}", "", self.columns), STATUS_LINE);
        canvas
    }
}

/// Whether the terminal's other end was closed. To be asked before events are: of a terminal that is gone they are waited for without an end.
fn hung_up() -> bool {
    let stdin = std::io::stdin();
    let mut wanted = [PollFd::new(&stdin, PollFlags::IN)];
    rustix::event::poll(&mut wanted, Some(&Timespec::default())).is_ok()
        && wanted[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
}
