// INT 80h: what a process may ask for. The number is in EAX, arguments in EBX and ECX, the answer goes to EAX.
#include "kernel.h"

// A process may only name memory below the inner rings' stacks. Whether it has any there, the page-fault handler decides when we
// touch it: if not, it ends the process, right in the middle of the system call.
static int is_its_memory(u32 address, u32 size) {
    return address < STACK_TOP && size <= STACK_TOP - address;
}

static u32 write(u32 address, u32 size) {
    char text[200];
    if (size > sizeof text || !is_its_memory(address, size))
        return 0;
    memcpy(text, (const void *)address, size);
    print("   %-8s ", current->name);
    console_write(text, size);
    console_write("\n", 1);
    return size;
}

static u32 grow_heap(u32 size) {
    u32 old = current->heap_end;
    if (size > HEAP_END - old)
        return 0;
    current->heap_end = old + size; // and that is all: pages come when they are touched
    return old;
}

// Which frame stands behind an address: a thing no real kernel tells, and the point of ours.
static u32 frame_behind(u32 address) {
    u32 *entry = is_its_memory(address, 1) ? entry_of(current, address, 0) : 0;
    return entry && *entry & P ? *entry & ~(PAGE - 1) : 0;
}

void system_call(struct frame *f) {
    switch (f->eax) {
    case SYS_EXIT:
        current->errors = f->ebx;
        current->sum = f->ecx;
        end_current(0);
    case SYS_WRITE:
        f->eax = write(f->ebx, f->ecx);
        break;
    case SYS_YIELD:
        schedule();
        break;
    case SYS_FORK:
        f->eax = fork_current(f);
        break;
    case SYS_GETPID:
        f->eax = current->pid;
        break;
    case SYS_SBRK:
        f->eax = grow_heap(f->ebx);
        break;
    case SYS_WAIT:
        f->eax = wait_for_child();
        break;
    case SYS_FRAME:
        f->eax = frame_behind(f->ebx);
        break;
    case SYS_SHARE:
        current->shares = 1;
        f->eax = SHARED_PAGE;
        break;
    case SYS_DRAIN:
        console_drain();
        break;
    case SYS_DIG:
        f->eax = dig(f->ebx);
        break;
    default:
        f->eax = (u32)-1;
    }
}
