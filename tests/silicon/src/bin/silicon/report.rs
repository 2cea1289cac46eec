//! What a search came to, in words.

use std::fmt::Write;
use std::time::Duration;

use pagewalk_silicon::case::End;
use pagewalk_silicon::compare::Undefined;
use pagewalk_silicon::generate;
use pagewalk_silicon::search::{Figures, Found, Options};
use pagewalk_silicon::shrink::shrink;

/// The figures, as lists in Markdown.
pub fn figures(options: &Options, figures: &Figures, elapsed: Duration) -> String {
    let mut text = String::new();
    let mut line = |what: String| {
        let _ = writeln!(text, "{what}");
    };
    let per_minute = figures.made as f64 / elapsed.as_secs_f64() * 60.0;
    line(format!(
        "- {} cases from seed {}, {} of them compared ({} sequences), in {:.1} s: {:.1} million a minute",
        figures.made,
        options.seed,
        figures.compared,
        figures.sequences,
        elapsed.as_secs_f64(),
        per_minute / 1e6
    ));
    for (reason, count) in &figures.dropped {
        line(format!("- left out: {count} ({})", reason.sentence()));
    }
    for (vector, count) in &figures.ends {
        let end = match vector {
            None => "fell through".to_string(),
            Some(vector) => {
                let end = End::Fault { vector: *vector, code: 0, cr2: 0 }.to_string();
                end.split(['(', ' ']).next().unwrap_or("?").to_string()
            }
        };
        line(format!("- {end}: {count}"));
    }
    let (covered, left_out) = (generate::covered(), generate::left_out());
    let missed: Vec<String> = covered
        .iter()
        .filter(|code| !figures.codes.contains_key(code))
        .map(|code| format!("{code:?}"))
        .collect();
    line(format!(
        "- {} of {} generated Codes came first in a case{}",
        covered.len() - missed.len(),
        covered.len(),
        if missed.is_empty() || missed.len() > 40 {
            String::new()
        } else {
            format!("; not {}", missed.join(", "))
        }
    ));
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (code, reason) in left_out {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, codes)) => codes.push(format!("{code:?}")),
            None => reasons.push((reason, vec![format!("{code:?}")])),
        }
    }
    for (reason, codes) in reasons {
        let names = if codes.len() <= 8 { format!(": {}", codes.join(", ")) } else { String::new() };
        line(format!("- {} Codes not generated ({reason}){names}", codes.len()));
    }
    for (explained, count) in &figures.explained {
        line(format!("- permitted difference: {count} ({})", explained.sentence()));
    }
    line(format!("- mismatches: {}", figures.mismatches()));
    text
}

/// A difference, shrunk unless it shall be shown as it was found.
pub fn difference(found: &Found, undefined: Undefined, whole: bool) {
    if whole {
        print!("{}", found.difference);
        return;
    }
    match shrink(&found.world, &found.difference, undefined) {
        Ok(shrunk) => {
            print!("{}", shrunk.difference);
            match &shrunk.vector {
                Ok(vector) => println!("{vector}"),
                Err(why) => println!("(no vector: {why})"),
            }
        }
        Err(error) => println!("{}(not shrunk: {error:#})", found.difference),
    }
}
