//! Generated cases here and on the host's processor: none may differ but by what `explained` names. PAGEWALK_SILICON_CASES
//! sets how many of each seed.

use pagewalk_silicon::generate::Generator;
use pagewalk_silicon::native::Native;
use pagewalk_silicon::random::Random;
use pagewalk_silicon::search::{Options, search};
use pagewalk_silicon::world::World;

fn search_from(seed: u64) {
    if let Err(error) = Native::new(&World { seed: 0, ldt: vec![] }) {
        println!("not run: {error:#}");
        return;
    }
    let cases = match std::env::var("PAGEWALK_SILICON_CASES") {
        Ok(text) => text.parse().expect("PAGEWALK_SILICON_CASES is not a number"),
        Err(_) => 300_000,
    };
    println!(
        "seed {seed}: repeat with cargo run --release -p pagewalk-silicon -- --cases {cases} --seed {seed}"
    );
    let figures =
        search(&Options { cases, seed, ..Options::default() }, Generator::new, |_| {}, |_| {}).unwrap();
    let mut shown = String::new();
    for found in figures.found.values().take(5) {
        shown += &format!("{}\n", found.difference);
    }
    assert_eq!(figures.mismatches(), 0, "seed {seed}:\n{shown}");
    assert!(figures.compared > cases * 9 / 10, "{} of {cases} compared", figures.compared);
}

#[test]
fn cases_of_a_fixed_seed_come_out_as_on_silicon() {
    search_from(1);
}

#[test]
fn cases_of_a_new_seed_come_out_as_on_silicon() {
    let time =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    search_from(Random::new(time.as_nanos() as u64).bits());
}
