//! Every vector of tests/vectors, in pagewalk on any host, and natively where the host can.

use std::path::{Path, PathBuf};

use pagewalk_silicon::vector::{Oracles, parse_file};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("tests/vectors is there")
        .map(|entry| entry.expect("tests/vectors can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ins"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_vector_holds_here_and_on_silicon() {
    let mut oracles = Oracles::default();
    if let Some(lack) = oracles.lacks_native() {
        println!("not run natively: {lack}");
    }
    let mut count = 0;
    let mut complaints = Vec::new();
    for file in files() {
        let vectors = parse_file(&file).unwrap_or_else(|error| panic!("{error:#}"));
        for vector in &vectors {
            complaints.extend(oracles.check(vector).unwrap_or_else(|error| panic!("{error:#}")));
        }
        count += vectors.len();
    }
    assert!(
        complaints.is_empty(),
        "{} of {count} vectors do not hold:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert!(count > 700, "only {count} vectors were found");
    println!("{count} vectors hold");
}

#[test]
fn vectors_are_printed_as_they_stand() {
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("the file can be read");
        let vectors = parse_file(&file).unwrap_or_else(|error| panic!("{error:#}"));
        let mut vectors = vectors.iter();
        for line in text.lines().filter(|line| line.starts_with('[')) {
            let vector = vectors.next().expect("there is one for each line");
            assert_eq!(vector.to_string(), line.split(" # ").next().unwrap_or(""), "{}", vector.place);
        }
    }
}
