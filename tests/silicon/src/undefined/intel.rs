//! What Intel's processors are publicly known to do. The source is sandpile.org, "rFLAGS register", table "undefined integer FLAGS
//! behavior", which was measured on three cores; what it does not say, or not clearly, is not here.

use iced_x86::Mnemonic;

use super::When;

/// What is known of an instruction in some circumstances.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Known {
    /// This, with the cores named: P5, P6, P4.
    Says(&'static str),
    /// Nothing that was measured.
    Nothing,
}

impl Known {
    /// For the table.
    pub fn words(self) -> &'static str {
        match self {
            Known::Says(words) => words,
            Known::Nothing => "not known",
        }
    }
}

/// What is known of Intel's processors.
pub fn known(mnemonic: Mnemonic, when: When) -> Known {
    use Mnemonic::*;
    Known::Says(match (mnemonic, when) {
        (And | Or | Xor, _) => "P5, P6, P4: AF 0",
        (Test, _) => "P5, P6, P4: AF 0; Pentium Pro: unchanged",
        (Bt | Bts | Btr | Btc, _) => "P6, P4: all unchanged; P5: likewise, but OF as after a ROR",
        (Mul | Imul, _) => "P5, P6: all unchanged; P4: SF, ZF, PF by the result, AF 0",
        (Div | Idiv, _) => "P6, P4: all unchanged; P5: not known",
        (Bsf | Bsr, When::SourceZero) => "P6: all unchanged; P4: OF, SF, AF, CF 0, PF 1",
        (Bsf | Bsr, _) => "P6: all unchanged; P4: OF, SF, AF, CF 0, PF by the result; P5: not known",
        (Shl | Sal | Shr | Sar | Shld | Shrd, When::CountOne) => "AF: P5 1, P6 unchanged, P4 0",
        (Shl | Sal | Shr | Sar | Shld | Shrd, When::CountMore) => {
            "AF: P5 1, P6 unchanged, P4 0; OF: P5, P4 by the result, P6 unchanged"
        }
        (Shl | Sal | Shr | Shld | Shrd, When::CountBeyond) => {
            "AF: P5 1, P6 unchanged, P4 0; OF: P6 unchanged; the others not clear"
        }
        (Rol | Ror, _) => "P5, P4: OF by the result; P6: unchanged",
        (Rcl | Rcr, _) => "P5: OF by the result; P6, P4: not clear",
        (Aam, _) => "P5, P6, P4: OF, AF, CF 0",
        (Aad, _) => "two of P5, P6, P4: OF, AF, CF of the 8-bit sum; the third: 0",
        (Daa | Das, _) => "OF: P5 of the 8-bit sum, P6 unchanged (Core 2: 0), P4 0",
        (Aaa, _) => {
            "OF, SF: P5 of the 16-bit sum, P6 unchanged and 0 (Core 2: OF 1), P4 0; ZF: P5, P6 of 16 bits, P4 of 8; PF not clear"
        }
        (Aas, _) => {
            "OF, SF: P5 of the 16-bit sum, P6 unchanged and 0 (Core 2: OF 0), P4 0; ZF: P5, P6 of 16 bits, P4 of 8; PF not clear"
        }
        _ => return Known::Nothing,
    })
}
