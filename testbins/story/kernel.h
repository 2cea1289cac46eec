// What the kernel's files offer each other, one section per file.
#ifndef KERNEL_H
#define KERNEL_H
#include "format.h"
#include "layout.h"

#define PAGE 4096u
#define PROCESSES 32
#define NOBODY 0

// ---- the processor, in the manual's words -----------------------------------------------------------------------------

static inline void outb(u16 port, u8 value) {
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline u8 inb(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u32 read_cr0(void) {
    u32 value;
    __asm__ volatile("movl %%cr0, %0" : "=r"(value));
    return value;
}
static inline u32 read_cr2(void) {
    u32 value;
    __asm__ volatile("movl %%cr2, %0" : "=r"(value));
    return value;
}
static inline u32 read_cr3(void) {
    u32 value;
    __asm__ volatile("movl %%cr3, %0" : "=r"(value));
    return value;
}
static inline void write_cr3(u32 value) {
    __asm__ volatile("movl %0, %%cr3" : : "r"(value) : "memory");
}
static inline void invlpg(u32 address) {
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}
// The kernel runs with IF clear. Only here does it let interrupts in: STI takes effect after the next instruction, so none
// can slip in between STI and HLT and leave us asleep.
static inline void wait_for_interrupt(void) {
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

// ---- format.c, console.c ------------------------------------------------------------------------------------------------

void *memset(void *to, int value, u32 count);
void *memcpy(void *to, const void *from, u32 count);

void console_init(void);
void console_interrupt(void);
void console_drain(void);                       // sleeps until the last bit has left the transmitter
void console_write(const char *text, u32 size); // returns at once: the transmitter's interrupts do the rest
void print(const char *text, ...) __attribute__((format(printf, 1, 2)));
void leave(u8 status) __attribute__((noreturn)); // ends the machine through the debug-exit port
void fail(const char *text, ...) __attribute__((noreturn, format(printf, 1, 2)));

// ---- segments.c, double_fault.c -----------------------------------------------------------------------------------------

// SDM 3A "Task-State Segment (TSS)".
struct tss {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, io_map;
} __attribute__((packed));

extern struct tss main_tss;
void segments_init(void);
void double_fault_init(void);
extern struct tss fault_tss;
u32 dig(u32 depth);

// ---- trap.S, trap.c -----------------------------------------------------------------------------------------------------

// The stack as every vector leaves it: pushed by trap.S up to `vector`, by the processor from `error` on.
struct frame {
    u32 gs, fs, es, ds, edi, esi, ebp, unused, ebx, edx, ecx, eax, vector, error;
    u32 eip, cs, eflags, esp, ss; // the last two only if the ring changed
};

enum { DIVIDE = 0, DOUBLE_FAULT = 8, GENERAL_PROTECTION = 13, PAGE_FAULT = 14, IRQ0 = 0x20, SYSTEM_CALL = 0x80 };

extern const u32 vectors[]; // the address of each vector's entry
void trap_return(void);
void switch_stacks(u32 *save, u32 load);

// ---- timer.c: the interrupt controllers and the timer ---------------------------------------------------------------------

#define TIMER_HZ 4000
enum { IRQ_TIMER = 0, IRQ_CASCADE = 2, IRQ_SERIAL = 4, IRQ_DISK = 14 };
void timer_init(void);
int irq_begin(u32 irq); // 0 if it was a ghost (spurious)
void irq_end(u32 irq);
extern volatile u32 ticks;

// ---- disk.c, swap.c -------------------------------------------------------------------------------------------------------

extern u32 disk_sectors;
extern char disk_model[41];
void disk_init(void);
void disk_interrupt(void);
void disk_page(u32 page, void *memory, int write);

#define SLOTS 1024
u32 swap_out(u32 slot, const void *page); // slot 0: into a new one
void swap_in(u32 slot, void *page);
void slot_get(u32 slot);
u32 slot_put(u32 slot); // how many hold it still
u32 slots_used(void);

// ---- memory.c: pages for page tables, frames for processes --------------------------------------------------------------------

struct frame_info {
    u32 address; // the linear address it stands behind: the same in each process that maps it
    u16 users;   // how many entries map it; 0: the frame is free
    u16 pinned;  // not to be evicted now
    u32 slot;    // where on the disk an up-to-date copy is, or 0
};
extern struct frame_info frames[FRAMES];
extern u32 frames_evicted, frames_written, frames_dropped;

static inline void *frame_memory(u32 f) {
    return (void *)(KERNEL + FRAMES_BASE + f * PAGE);
}
u32 *pool_take(void);
void pool_give(void *page);
u32 pool_used(void);
u32 frame_take(u32 address); // a free frame, or an evicted one
void frame_give(u32 f);
u32 frames_free(void);

// ---- paging.c ---------------------------------------------------------------------------------------------------------------

enum { P = 1, RW = 2, US = 4, A = 0x20, D = 0x40, G = 0x100 };      // page-table entry
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8 };                     // #PF error code

extern u32 kernel_directory[1024];
extern u32 first_cr0;
extern int global_pages, has_cpuid;
struct process;
void paging_init(void);
u32 *entry_of(struct process *p, u32 address, int create);
void invalidate(struct process *p, u32 address);
int entry_frame(u32 entry); // the frame a present entry maps, -1 for one that is none of ours
const char *handle_page_fault(u32 address, u32 error); // 0, or why it cannot be helped
void address_space_init(struct process *p);
void address_space_copy(struct process *to, struct process *from);
void address_space_free(struct process *p);

// ---- process.c ----------------------------------------------------------------------------------------------------------------

struct program {
    const char *name;
    const u8 *start, *end;
};
extern const struct program programs[]; // written by build.rs from programs/

// The head of every program's image: programs/lib/start.S.
struct image_head {
    u32 magic, text_end, data_end, bss_end, entry;
};
#define IMAGE_MAGIC 0x79726F54

enum state { FREE, READY, WAITING, DONE };

struct process {
    char name[16];
    enum state state;
    u32 pid, parent, cr3, kernel_esp;
    u32 *directory;
    const struct program *program;
    struct image_head head;
    u32 heap_end;
    int shares;
    // What other processes' faults changed in our page tables since we last ran: see invalidate().
    u32 stale[2 * FRAMES], stale_count;
    // How it should end and how it did.
    u32 expected_vector, expected_sum, child_sum;
    u32 vector, sum, errors;
    u32 faults, ins, outs, copies, switches, preempted;
};
extern struct process processes[PROCESSES];
extern struct process *current;
extern int tick_due;

void processes_init(void);
struct process *spawn(const char *name, const char *program, u32 argument);
void run(void); // until every process has ended
void schedule(void);
u32 fork_current(const struct frame *f);
u32 wait_for_child(void);
void end_current(u32 vector) __attribute__((noreturn));
u32 kernel_stack_top(const struct process *p);
u32 kernel_stack_guard(u32 i);

// ---- system_call.c ----------------------------------------------------------------------------------------------------------------

void system_call(struct frame *f);
#endif
