//! Loads and stores of segment registers, LDTR and TR, and the instructions that ask about descriptors (SDM 3A
//! "Protection").

mod ask;
mod load;
mod system;

#[cfg(test)]
mod tests;

use iced_x86::Code;

use crate::bus::Bus;
use crate::execute::{Mem, Reg, Shape, by_form};
use crate::observe::Observer;
use crate::op::Handler;
use crate::segment::{DS, ES, FS, GS, SS};
use ask::{Lar, Lsl, Verr, Verw, arpl, query, verify};
use load::{mov_from_sreg, mov_to_sreg, pop_sreg, push_sreg};
use system::{Ldtr, Tr, load_system, store_system};

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        // memory takes 16 bits whatever the operand size
        Code::Mov_rm16_Sreg => by_form!(shape, mov_from_sreg, u16),
        Code::Mov_r32m16_Sreg if shape.memory => mov_from_sreg::<B, O, Mem, u16>,
        Code::Mov_r32m16_Sreg => mov_from_sreg::<B, O, Reg, u32>,
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 => by_form!(shape, mov_to_sreg),

        Code::Pushw_ES | Code::Pushw_CS | Code::Pushw_SS | Code::Pushw_DS => push_sreg::<B, O, u16>,
        Code::Pushw_FS | Code::Pushw_GS => push_sreg::<B, O, u16>,
        Code::Pushd_ES | Code::Pushd_CS | Code::Pushd_SS | Code::Pushd_DS => push_sreg::<B, O, u32>,
        Code::Pushd_FS | Code::Pushd_GS => push_sreg::<B, O, u32>,
        Code::Popw_ES | Code::Popw_SS | Code::Popw_DS | Code::Popw_FS | Code::Popw_GS => {
            pop_sreg::<B, O, u16>
        }
        Code::Popd_ES | Code::Popd_SS | Code::Popd_DS | Code::Popd_FS | Code::Popd_GS => {
            pop_sreg::<B, O, u32>
        }

        Code::Les_r16_m1616 => load::lfp::<B, O, u16, ES>,
        Code::Les_r32_m1632 => load::lfp::<B, O, u32, ES>,
        Code::Lss_r16_m1616 => load::lfp::<B, O, u16, SS>,
        Code::Lss_r32_m1632 => load::lfp::<B, O, u32, SS>,
        Code::Lds_r16_m1616 => load::lfp::<B, O, u16, DS>,
        Code::Lds_r32_m1632 => load::lfp::<B, O, u32, DS>,
        Code::Lfs_r16_m1616 => load::lfp::<B, O, u16, FS>,
        Code::Lfs_r32_m1632 => load::lfp::<B, O, u32, FS>,
        Code::Lgs_r16_m1616 => load::lfp::<B, O, u16, GS>,
        Code::Lgs_r32_m1632 => load::lfp::<B, O, u32, GS>,

        Code::Lar_r16_rm16 => by_form!(shape, query, Lar, u16),
        Code::Lar_r32_r32m16 => by_form!(shape, query, Lar, u32),
        Code::Lsl_r16_rm16 => by_form!(shape, query, Lsl, u16),
        Code::Lsl_r32_r32m16 => by_form!(shape, query, Lsl, u32),
        Code::Verr_rm16 | Code::Verr_r32m16 => by_form!(shape, verify, Verr),
        Code::Verw_rm16 | Code::Verw_r32m16 => by_form!(shape, verify, Verw),
        Code::Arpl_rm16_r16 | Code::Arpl_r32m16_r32 => by_form!(shape, arpl),

        Code::Lldt_rm16 | Code::Lldt_r32m16 => by_form!(shape, load_system, Ldtr),
        Code::Ltr_rm16 | Code::Ltr_r32m16 => by_form!(shape, load_system, Tr),
        Code::Sldt_rm16 => by_form!(shape, store_system, Ldtr, u16),
        Code::Sldt_r32m16 if shape.memory => store_system::<B, O, Mem, Ldtr, u16>,
        Code::Sldt_r32m16 => store_system::<B, O, Reg, Ldtr, u32>,
        Code::Str_rm16 => by_form!(shape, store_system, Tr, u16),
        Code::Str_r32m16 if shape.memory => store_system::<B, O, Mem, Tr, u16>,
        Code::Str_r32m16 => store_system::<B, O, Reg, Tr, u32>,
        _ => return None,
    })
}
