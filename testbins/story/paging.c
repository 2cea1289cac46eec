// Page directories and tables, and the page-fault handler that makes a little memory look like a lot.
// SDM 3A "32-Bit Paging", "Page-Fault Exceptions", "Operations that Invalidate TLBs and Paging-Structure Caches".
#include "kernel.h"

extern u32 kernel_table[1024];
extern u8 read_only_start[], read_only_end[], inner_load[], inner_size[]; // link.ld
static u32 inner_table[1024] __attribute__((aligned(4096)));
static int shared_frame = -1;

static inline u32 physical(const void *kernel_address) {
    return (u32)kernel_address - KERNEL;
}

static void change_kernel_page(u32 address, u32 entry) {
    kernel_table[address / PAGE % 1024] = entry;
    invlpg(address);
}

// boot.S mapped the first 4 MiB alike. Now each page gets the rights it needs.
void paging_init(void) {
    change_kernel_page(KERNEL, 0); // nobody has business at address 0 of memory
    for (u32 hole = 0xA0000; hole < 0x100000; hole += PAGE)
        change_kernel_page(KERNEL + hole, 0);
    for (u32 at = (u32)read_only_start; at < (u32)read_only_end; at += PAGE)
        change_kernel_page(at, physical((void *)at) | G | P); // holds for us as well: CR0.WP is set
    for (u32 i = 0; i < PROCESSES; i++)
        change_kernel_page(kernel_stack_guard(i), 0);
    for (u32 at = 0; at < (u32)inner_size; at += PAGE)
        inner_table[at / PAGE] = ((u32)inner_load + at) | G | RW | P; // no US: rings 0 to 2
    kernel_directory[INNER >> 22] = physical(inner_table) | RW | P;
}

// The entry for `address` in p's tables; if the table is missing, 0 or a new one.
u32 *entry_of(struct process *p, u32 address, int create) {
    u32 *upper = &p->directory[address >> 22];
    if (!(*upper & P)) {
        if (!create)
            return 0;
        *upper = physical(pool_take()) | US | RW | P; // the rights are decided in the tables
    }
    u32 *table = (u32 *)((*upper & ~0xFFFu) + KERNEL);
    return &table[address / PAGE % 1024];
}

int entry_frame(u32 entry) {
    u32 f = (entry - FRAMES_BASE) / PAGE;
    return entry >= FRAMES_BASE && f < FRAMES ? (int)f : -1;
}

// After an entry changed. The TLB need not hold anything of a process that does not run - but a processor that tags its entries
// with the address space may, and MOV CR3 would not drop it. So we note the address and invalidate it when p runs again. Each
// of p's pages can lose its accessed bit once and be evicted once until then, hence the size of the list.
void invalidate(struct process *p, u32 address) {
    if (p == current)
        invlpg(address);
    else
        p->stale[p->stale_count++] = address;
}

// ---- what a process may touch -----------------------------------------------------------------------------------------------

enum rights { NOTHING, READ_ONLY, WRITABLE, INNER_ONLY };

static enum rights rights_at(const struct process *p, u32 address) {
    const struct image_head *h = &p->head;
    if (address >= IMAGE && address < h->bss_end)
        return address < h->text_end ? READ_ONLY : WRITABLE;
    if (address >= HEAP && address < p->heap_end)
        return WRITABLE;
    if (address >= STACK_TOP - STACK_SIZE && address < STACK_TOP)
        return WRITABLE;
    if (address / PAGE == SHARED_PAGE / PAGE && p->shares)
        return WRITABLE;
    if (address / PAGE == STACK1_TOP / PAGE - 1 || address / PAGE == STACK2_TOP / PAGE - 1)
        return INNER_ONLY;
    return NOTHING;
}

// The first look at a page of the program: a copy of what the image says, and zeros behind its end.
static void fill(struct process *p, u32 address, void *page) {
    memset(page, 0, PAGE);
    if (address < IMAGE || address >= p->head.data_end)
        return;
    u32 size = p->head.data_end - address;
    memcpy(page, p->program->start + (address - IMAGE), size < PAGE ? size : PAGE);
}

// Demand paging: a page that was never touched, or one that is on the disk.
static void page_in(struct process *p, u32 address, u32 bits) {
    if (address == SHARED_PAGE && shared_frame >= 0) {
        frames[shared_frame].users++;
        *entry_of(p, address, 1) = (FRAMES_BASE + (u32)shared_frame * PAGE) | bits;
        return;
    }
    u32 *entry = entry_of(p, address, 1);
    u32 f = frame_take(address), slot = *entry >> 12;
    frames[f].pinned = 1;
    if (slot) {
        swap_in(slot, frame_memory(f));
        p->ins++;
        if (slot_put(slot) == 0) {
            slot_get(slot);
            frames[f].slot = slot; // the copy on the disk stays good until somebody writes
        } else {
            bits |= D; // that copy is somebody else's: ours must be written if it goes
        }
    } else {
        fill(p, address, frame_memory(f));
    }
    frames[f].pinned = address == SHARED_PAGE;
    if (address == SHARED_PAGE)
        shared_frame = (int)f;
    *entry = (FRAMES_BASE + f * PAGE) | bits;
}

// Copy on write: the page is writable by right but read-only in the table, because fork made it stand for two.
static void copy_on_write(struct process *p, u32 address, u32 *entry) {
    u32 old = (u32)entry_frame(*entry);
    if (!(*entry & RW) && frames[old].users > 1) {
        frames[old].pinned = 1; // or the clock might choose the very page we copy
        u32 f = frame_take(address);
        frames[old].pinned = 0;
        memcpy(frame_memory(f), frame_memory(old), PAGE);
        frame_give(old);
        *entry = (FRAMES_BASE + f * PAGE) | D | US | P; // born dirty: no other copy of it exists
        p->copies++;
    }
    *entry |= RW;
    invalidate(p, address);
}

// Makes the access possible and answers 0: the processor then runs the instruction again as if nothing had happened.
// Or says why the process has no right to it.
const char *handle_page_fault(u32 address, u32 error) {
    struct process *p = current;
    enum rights rights = rights_at(p, address);
    if (address >= KERNEL)
        return "the kernel's memory is closed to it";
    if (rights == NOTHING && address < STACK_TOP && address >= STACK_TOP - STACK_SIZE - PAGE)
        return "it ran off its stack, into the guard page";
    if (rights == NOTHING)
        return "it has no memory there";
    if (rights == INNER_ONLY && error & E_U)
        return "that is a stack of the inner rings";
    if (rights == READ_ONLY && error & E_W)
        return "its text is read-only";
    if (error & E_RSVD)
        fail("   a reserved bit is set in a page table at %08x\n", address);

    if (error & E_P && !(error & E_W))
        fail("   a page that is there cannot be read: address %08x, error code %x\n", address, error);

    p->faults++;
    address &= ~(PAGE - 1);
    if (!(error & E_P))
        page_in(p, address, (rights == INNER_ONLY ? 0u : US) | (rights == READ_ONLY ? 0u : RW) | P);
    else
        copy_on_write(p, address, entry_of(p, address, 0));
    return 0;
}

// ---- whole address spaces -----------------------------------------------------------------------------------------------------

// One directory per process, never used for another one: a CR3 value then names one address space for good.
static u32 directories[PROCESSES][1024] __attribute__((aligned(4096)));

// The upper quarter is the kernel's in every directory, the page-table entries there are global.
void address_space_init(struct process *p) {
    p->directory = directories[p - processes];
    p->directory[INNER >> 22] = kernel_directory[INNER >> 22];
    p->directory[KERNEL >> 22] = kernel_directory[KERNEL >> 22];
    p->cr3 = physical(p->directory);
}

// Calls `visit` with each address below the kernel for which p's tables say something.
static void each_page(struct process *p, void (*visit)(struct process *p, u32 address, u32 *entry, void *what), void *what) {
    for (u32 upper = 0; upper < INNER >> 22; upper++) {
        if (!(p->directory[upper] & P))
            continue;
        for (u32 i = 0; i < 1024; i++) {
            u32 address = upper << 22 | i * PAGE, *entry = entry_of(p, address, 0);
            if (*entry)
                visit(p, address, entry, what);
        }
    }
}

// Fork copies tables, not pages: parent and child share every frame, read-only, until one of them writes.
static void share_page(struct process *from, u32 address, u32 *entry, void *what) {
    if (!(*entry & P)) {
        slot_get(*entry >> 12);
    } else {
        frames[entry_frame(*entry)].users++;
        if (address != SHARED_PAGE && *entry & RW) {
            *entry &= ~(u32)RW;
            invalidate(from, address);
        }
    }
    *entry_of(what, address, 1) = *entry;
}

void address_space_copy(struct process *to, struct process *from) {
    each_page(from, share_page, to);
}

static void drop_page(struct process *p, u32 address, u32 *entry, void *what) {
    (void)p, (void)what;
    if (!(*entry & P)) {
        slot_put(*entry >> 12);
    } else {
        frame_give((u32)entry_frame(*entry));
        if (address == SHARED_PAGE && !frames[shared_frame].users)
            shared_frame = -1;
    }
    *entry = 0;
}

void address_space_free(struct process *p) {
    each_page(p, drop_page, 0);
    for (u32 upper = 0; upper < INNER >> 22; upper++) {
        if (p->directory[upper] & P)
            pool_give((void *)((p->directory[upper] & ~0xFFFu) + KERNEL));
        p->directory[upper] = 0;
    }
}
