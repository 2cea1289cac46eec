//! A graphics mode's screen in a window: two dots above each other are one character, whose upper half has one colour and
//! whose background is the other.

use pagewalk_pc::vga::picture::Picture;

use super::Palette;
use super::canvas::{Canvas, Colour, Spot};

/// Scales the picture down to the first `rows` rows of the canvas, its shape kept.
pub fn draw(picture: &Picture, palette: Palette, canvas: &mut Canvas, rows: usize) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (most_wide, most_high) = (canvas.columns(), rows * 2);
    if width == 0 || height == 0 || most_wide == 0 || most_high == 0 {
        return;
    }
    let (wide, high) = if width <= most_wide && height <= most_high {
        (width, height)
    } else if width * most_high > height * most_wide {
        (most_wide, (height * most_wide / width).max(1))
    } else {
        ((width * most_high / height).max(1), most_high)
    };
    let dots = scaled(picture, wide, high);
    let dot = |x: usize, y: usize| dots.get(y * wide + x).copied().unwrap_or_default();
    for row in 0..high.div_ceil(2) {
        for column in 0..wide {
            let [front, back] = [2 * row, 2 * row + 1].map(|y| match palette {
                Palette::Full => Colour::Rgb(dot(column, y)),
                Palette::Indexed => Colour::Index(in_cube(dot(column, y))),
            });
            canvas.set(row, column, Spot { glyph: '▀', front, back, blinks: false });
        }
    }
}

/// The mean colour of the dots that fall on each of `wide` by `high`.
fn scaled(picture: &Picture, wide: usize, high: usize) -> Vec<[u8; 3]> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let mut out = Vec::with_capacity(wide * high);
    for y in 0..high {
        let lines = y * height / high..((y + 1) * height / high).max(y * height / high + 1);
        for x in 0..wide {
            let columns = x * width / wide..((x + 1) * width / wide).max(x * width / wide + 1);
            let mut sums = [0u64; 3];
            for line in lines.clone() {
                let at = |column: usize| (line * width + column) * 3;
                let dots = picture.rgb.get(at(columns.start)..at(columns.end)).unwrap_or_default();
                for dot in dots.chunks_exact(3) {
                    sums.iter_mut().zip(dot).for_each(|(sum, part)| *sum += u64::from(*part));
                }
            }
            let count = (lines.len() * columns.len()) as u64;
            out.push(sums.map(|sum| (sum / count) as u8));
        }
    }
    out
}

/// The nearest of a 256-colour terminal's cube of 6 by 6 by 6.
fn in_cube(colour: [u8; 3]) -> u8 {
    let [red, green, blue] = colour.map(|part| match part {
        0..48 => 0,
        48..115 => 1,
        _ => (part - 35) / 40,
    });
    16 + 36 * red + 6 * green + blue
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left half red, right half blue, the last line white.
    fn picture(width: u32, height: u32) -> Picture {
        let dot = |x, y| match (x, y) {
            (_, y) if y == height - 1 => [255; 3],
            (x, _) if x < width / 2 => [255, 0, 0],
            _ => [0, 0, 255],
        };
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| dot(x, y))).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn two_lines_of_dots_are_one_row() {
        let mut canvas = Canvas::new(10, 4);
        draw(&picture(4, 4), Palette::Full, &mut canvas, 3);
        let mut expected = Canvas::new(10, 4);
        for column in 0..4 {
            let colour = if column < 2 { [255, 0, 0] } else { [0, 0, 255] };
            let (front, below) = (Colour::Rgb(colour), Colour::Rgb([255; 3]));
            expected.set(0, column, Spot { glyph: '▀', front, back: front, blinks: false });
            expected.set(1, column, Spot { glyph: '▀', front, back: below, blinks: false });
        }
        assert_eq!(canvas, expected);
    }

    #[test]
    fn a_large_picture_keeps_its_shape_and_its_mean_colours() {
        assert_eq!(
            scaled(&picture(640, 480), 2, 2),
            [[255, 0, 0], [0, 0, 255], [255, 1, 1], [1, 1, 255]],
            "the white line is one of 240"
        );
        let mut canvas = Canvas::new(80, 24);
        draw(&picture(640, 480), Palette::Full, &mut canvas, 23);
        // 46 dots high, so 61 wide
        assert!(canvas.changes(None).contains("\x1b[23;1H") && !canvas.changes(None).contains("\x1b[24;"));
        let terminal = {
            let mut terminal = vt100::Parser::new(24, 80, 0);
            terminal.process(canvas.changes(None).as_bytes());
            terminal
        };
        assert_eq!(terminal.screen().contents().lines().next().map(|line| line.chars().count()), Some(61));
    }

    #[test]
    fn the_cube_has_black_white_and_pure_colours() {
        assert_eq!([[0; 3], [255; 3], [255, 0, 0], [0, 0, 255]].map(in_cube), [16, 231, 196, 21]);
        assert_eq!(in_cube([95, 135, 175]), 67, "xterm's 5f87af");
    }
}
