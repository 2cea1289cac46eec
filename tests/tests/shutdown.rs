//! Where a double fault cannot be delivered, the processor shuts down: SDM 3A "Double Fault Exception (#DF)".

use std::time::Duration;

use pagewalk_lens::qemu::Ending;
use pagewalk_pc::machine::{Machine, Parts};
use pagewalk_tests::{MOST, board, plan, qemu, run_to_end};
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model;

/// What QEMU survives, for it checks no stack segment's limit: SDM 3A "Limit Checking".
const SURVIVED_BY_QEMU: &[&str] = &["stack-too-small"];

#[test]
fn a_double_fault_that_meets_one_more_fault_shuts_the_processor_down() {
    let guest = pagewalk_testbins::find("double_fault_matrix").unwrap();
    let mut seen = 0;
    for scene in 1.. {
        let command_line = format!("shutdown={scene}");
        let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
        let plan = plan(guest.image, guest.name, &command_line).unwrap();
        let mut machine = Machine::new(parts, board().unwrap(), &plan, ()).unwrap();
        let (stop, text) = run_to_end(&mut machine, MOST);
        if text.contains("no-such-shutdown") {
            break;
        }
        assert!(matches!(stop, Stop::Shutdown(_)), "{text}: {stop:?}");
        assert!(text.contains("shutting-down") && !text.contains("survived"), "{text}");

        let (end, theirs) = qemu(guest.image, &command_line, Duration::from_secs(60)).unwrap();
        let survives = SURVIVED_BY_QEMU.iter().any(|name| text.contains(name));
        assert_eq!(theirs.contains("survived"), survives, "{theirs}");
        if !survives {
            assert_eq!((end, theirs.as_str()), (Some(Ending::TripleFault), text.as_str()));
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} scenes");
}
