// Memory: a pool of pages for page tables, and the few frames that all processes share. When those are gone, the clock decides
// which one is taken back.
#include "kernel.h"

struct frame_info frames[FRAMES];
u32 frames_evicted, frames_written, frames_dropped;

// ---- the pool -----------------------------------------------------------------------------------------------------------

static u8 pool_taken[POOL_PAGES];

u32 *pool_take(void) {
    for (u32 i = 0; i < POOL_PAGES; i++) {
        if (!pool_taken[i]) {
            pool_taken[i] = 1;
            return memset((void *)(KERNEL + POOL + i * PAGE), 0, PAGE);
        }
    }
    fail("   no page is left for page tables\n");
}

void pool_give(void *page) {
    pool_taken[((u32)page - KERNEL - POOL) / PAGE] = 0;
}

u32 pool_used(void) {
    u32 n = 0;
    for (u32 i = 0; i < POOL_PAGES; i++)
        n += pool_taken[i];
    return n;
}

// ---- the clock ------------------------------------------------------------------------------------------------------------

// Calls `visit` on each entry that maps frame `f`. A frame stands behind the same linear address wherever it is mapped, so the
// entries are found by asking every process for its entry of that address.
static void each_user(u32 f, void (*visit)(struct process *p, u32 *entry, void *what), void *what) {
    for (u32 i = 0; i < PROCESSES; i++) {
        struct process *p = &processes[i];
        if (p->state == FREE || p->state == DONE || !p->directory)
            continue;
        u32 *entry = entry_of(p, frames[f].address, 0);
        if (entry && *entry & P && entry_frame(*entry) == (int)f)
            visit(p, entry, what);
    }
}

// The processor sets the accessed bit when it uses an entry; the clock's hand clears it. While the TLB holds the entry the
// processor would not look again, so the address is invalidated too.
static void age(struct process *p, u32 *entry, void *was_used) {
    if (*entry & A) {
        *entry &= ~(u32)A;
        invalidate(p, frames[entry_frame(*entry)].address);
        *(int *)was_used = 1;
    }
}

// The first half of an eviction: nobody can reach the frame any more, and we know whether somebody wrote to it. The order
// matters: only once the entry is not present, and gone from the TLB, can its dirty bit no longer change.
struct departure {
    struct process *owner;
    u32 users, dirty, *entries[PROCESSES];
};
static void unmap(struct process *p, u32 *entry, void *what) {
    struct departure *d = what;
    u32 f = (u32)entry_frame(*entry);
    d->dirty |= *entry & D;
    *entry = 0;
    invalidate(p, frames[f].address);
    d->entries[d->users++] = entry;
    d->owner = p;
}

static void evict(u32 f) {
    struct departure d = {0};
    each_user(f, unmap, &d);
    u32 slot = frames[f].slot;
    if (d.dirty) {
        slot = swap_out(slot, frame_memory(f));
        frames_written++;
        d.owner->outs++;
    } else {
        frames_dropped++; // the disk's copy, the program's image or plain zeros still say the same
    }
    // An entry that is not present is ours but for bit 0: the slot in its upper 20 bits, or all 0 for a page that can be made
    // anew. The frame's hold on the slot passes to the first entry, the others get their own.
    for (u32 i = 0; i < d.users; i++) {
        *d.entries[i] = slot << 12;
        if (slot && i)
            slot_get(slot);
    }
    frames_evicted++;
    frames[f].users = 0;
    frames[f].slot = 0;
}

// The hand goes round: a frame used since its last visit is spared once, one that was not goes.
static u32 clock(void) {
    static u32 hand;
    for (u32 visits = 0; visits < 3 * FRAMES; visits++) {
        u32 f = hand;
        hand = (hand + 1) % FRAMES;
        if (frames[f].pinned)
            continue;
        int used = 0;
        each_user(f, age, &used);
        if (!used)
            return f;
    }
    fail("   every frame is pinned\n");
}

u32 frame_take(u32 address) {
    u32 f = 0;
    while (f < FRAMES && frames[f].users)
        f++;
    if (f == FRAMES) {
        f = clock();
        evict(f);
    }
    frames[f] = (struct frame_info){address, 1, 0, 0};
    return f;
}

void frame_give(u32 f) {
    if (--frames[f].users == 0) {
        frames[f].pinned = 0;
        if (frames[f].slot)
            slot_put(frames[f].slot);
        frames[f].slot = 0;
    }
}

u32 frames_free(void) {
    u32 n = 0;
    for (u32 f = 0; f < FRAMES; f++)
        n += !frames[f].users;
    return n;
}
