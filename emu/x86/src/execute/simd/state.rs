//! The state as a whole: EMMS, LDMXCSR, STMXCSR, FXSAVE, FXRSTOR (SDM 1 "FXSAVE and FXRSTOR Instructions").

use iced_x86::Code;

use crate::bus::Bus;
use crate::control::{CR0_EM, CR0_TS};
use crate::cpu::{Cpu, State};
use crate::execute::Shape;
use crate::execute::simd::{load, require_mmx, require_sse, store};
use crate::fault::{Exec, Fault};
use crate::mmu::{Aligned, Intent, Wide};
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Emms => emms,
        Code::Ldmxcsr_m32 => ldmxcsr,
        Code::Stmxcsr_m32 => stmxcsr,
        Code::Fxsave_m512byte => fxsave,
        Code::Fxrstor_m512byte => fxrstor,
        _ => return None,
    })
}

/// EMMS: all registers are empty. TOP is 0 after it as after all of MMX.
fn emms<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_mmx(cpu)?;

    cpu.fpu.tag = 0xffff;
    cpu.fpu.status &= !0x3800;
    Ok(())
}

/// LDMXCSR: #GP(0) for bits that do not exist.
fn ldmxcsr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_sse(cpu)?;
    let value = load::<B, O, 4>(cpu, op)? as u32;
    cpu.ensure(value & !cpu.model.mxcsr_mask() == 0, Fault::GeneralProtection(0))?;

    cpu.mxcsr = value;
    Ok(())
}

/// STMXCSR.
fn stmxcsr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_sse(cpu)?;

    store::<B, O, 4>(cpu, op, cpu.mxcsr as u128)
}

/// Bytes of an image. All are translated, the last 224 are neither read nor written.
const BYTES: usize = 512;
/// Its parts of 16 bytes, and those in use: the x87 state, MXCSR, ST0 to ST7 and XMM0 to XMM7.
const PARTS: usize = BYTES / 16;
const USED: usize = 18;

impl State {
    /// Takes x87, MXCSR and XMM registers from an FXSAVE image.
    pub fn load_fxsave(&mut self, image: &[u8; BYTES]) {
        self.fpu.load_image(image);
        self.mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
        for (xmm, part) in self.xmm.iter_mut().zip(image[160..].chunks_exact(16)) {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(part);
            *xmm = u128::from_le_bytes(bytes);
        }
    }

    /// Writes them into such an image, with the mask of MXCSR.
    pub fn store_fxsave(&self, image: &mut [u8; BYTES], mxcsr_mask: u32) {
        self.fpu.store_image(image);
        image[24..28].copy_from_slice(&self.mxcsr.to_le_bytes());
        image[28..32].copy_from_slice(&mxcsr_mask.to_le_bytes());
        for (part, xmm) in image[160..].chunks_exact_mut(16).zip(self.xmm) {
            part.copy_from_slice(&xmm.to_le_bytes());
        }
    }
}

/// The image, in parts.
fn image<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, intent: Intent) -> Exec<[Wide; PARTS]> {
    // EM and TS as the manual's current edition has them
    cpu.ensure(cpu.cr0 & CR0_EM == 0, Fault::InvalidOpcode)?;
    cpu.ensure(cpu.cr0 & CR0_TS == 0, Fault::DeviceNotAvailable)?;
    let (segment, offset) = (op.segment as usize, cpu.effective_address(op));
    let linear = cpu.require_within(segment, offset, BYTES as u32, intent)?;
    // #AC, where it is enabled, takes the place of #GP(0) (SDM 2A "FXSAVE" leaves that to the processor)
    let misaligned = if cpu.check_alignment { Fault::Alignment } else { Fault::GeneralProtection(0) };
    cpu.ensure(linear & 15 == 0, misaligned)?;
    let mut part =
        |n: usize| cpu.translate_wide(segment, offset.wrapping_add(n as u32 * 16), intent, Aligned::Must);
    let mut parts = [part(0)?; PARTS];
    for (n, place) in parts.iter_mut().enumerate().skip(1) {
        *place = part(n)?;
    }
    Ok(parts)
}

/// FXSAVE. Choice: XMM registers are saved whatever CR4.OSFXSR says.
fn fxsave<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let parts = image(cpu, op, Intent::Write)?;

    let mut image = [0; BYTES];
    cpu.state.store_fxsave(&mut image, cpu.model.mxcsr_mask());

    for (place, part) in parts.into_iter().take(USED).zip(image.chunks_exact(16)) {
        let value = part.iter().rev().fold(0, |value, &byte| value << 8 | byte as u128);
        cpu.store_wide(place, value);
    }
    Ok(())
}

/// FXRSTOR: #GP(0) for bits of MXCSR that do not exist.
fn fxrstor<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let parts = image(cpu, op, Intent::Read)?;
    let mut image = [0; BYTES];
    for (place, part) in parts.into_iter().take(USED).zip(image.chunks_exact_mut(16)) {
        part.copy_from_slice(&cpu.load_wide(place).to_le_bytes());
    }
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    cpu.ensure(mxcsr & !cpu.model.mxcsr_mask() == 0, Fault::GeneralProtection(0))?;

    cpu.state.load_fxsave(&image);
    Ok(())
}
