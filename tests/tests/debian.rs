//! Debian's user space, made by debootstrap, from an IDE disk.

use pagewalk_tests::debian::{POWER_OFF, Root, sha256};
use pagewalk_x86::bus;
use pagewalk_x86::fault::Stop;

/// Files whose every byte is read over IDE.
const FILES: [&str; 4] =
    ["/usr/bin/perl", "/usr/bin/bash", "/usr/lib/i386-linux-gnu/libc.so.6", "/var/lib/dpkg/status"];

#[test]
fn debian_runs_from_an_ext4_disk_and_leaves_it_clean() {
    let root = Root::default();
    let sums: Vec<_> = FILES.iter().map(|file| format!("{}  {file}\n", sha256(&root.file(file)))).collect();
    let status = std::fs::read_to_string(root.file("/var/lib/dpkg/status")).unwrap();
    let packages = status.lines().filter(|line| line.starts_with("Package: ")).count();
    let version = |package: &str| {
        let (_, after) = status.split_once(&format!("Package: {package}\n")).unwrap();
        let (_, after) = after.split_once("\nVersion: ").unwrap();
        after.lines().next().unwrap_or_default().to_owned()
    };
    let release = std::fs::read_to_string(root.file("/etc/debian_version")).unwrap();

    let numbers: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    let file = root.path().with_file_name("numbers");
    std::fs::write(&file, &numbers).unwrap();
    let sum = sha256(&file);

    let mut talk = root.shell("686-pae", "").here();
    talk.prompt();
    let expected = [
        ("cat /etc/debian_version", release),
        (
            "awk '$1 == \"/dev/root\" || $1 == \"/dev/sda\" { print $2, $3 }' /proc/mounts",
            "/ ext4\n".to_owned(),
        ),
        ("dpkg -l | grep -c ^ii", format!("{packages}\n")),
        ("dpkg-query -W -f '${Version}\\n' base-files", format!("{}\n", version("base-files"))),
        ("apt --version", format!("apt {} (i386)\n", version("apt"))),
        // 17 generates all residues of this prime
        (
            "perl -e 'my ($x, %s) = (1); while (!$s{$x}++) { $x = $x * 17 % 65521 } print scalar(keys %s), \"\\n\"'",
            "65520\n".to_owned(),
        ),
        (
            "perl -e 'printf \"%.15g %s\\n\", exp(1), join \",\", map { $_ ** 2 } grep { $_ % 2 } 1..9'",
            "2.71828182845905 1,9,25,49,81\n".to_owned(),
        ),
        (&format!("sha256sum {}", FILES.join(" ")), sums.concat()),
        ("seq 1 200000 > /root/numbers; sync; echo 3 > /proc/sys/vm/drop_caches", String::new()),
        ("sha256sum < /root/numbers", format!("{sum}  -\n")),
    ];
    for (command, answer) in expected {
        assert_eq!(talk.command(command), answer, "{command}\n{}", talk.text());
    }
    assert_eq!(talk.last(POWER_OFF), Stop::Request(bus::Request::PowerOff), "{}", talk.text());

    root.check().unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(std::fs::read_to_string(root.file("/root/numbers")).unwrap(), numbers);
}
