// The swap disk as 1024 slots of a page each. A slot may be held by several page-table entries: fork copies entries of pages
// that are away just as it copies those of pages that are here. Slot 0 is never used: 0 means "no slot", and the disk's first
// sectors, where a partition table would be, stay as they are.
#include "kernel.h"

static u8 holders[SLOTS];

u32 slots_used(void) {
    u32 n = 0;
    for (u32 i = 1; i < SLOTS; i++)
        n += holders[i] != 0;
    return n;
}

void slot_get(u32 slot) {
    holders[slot]++;
}

u32 slot_put(u32 slot) {
    return --holders[slot];
}

u32 swap_out(u32 slot, const void *page) {
    if (!slot) {
        for (slot = 1; slot < SLOTS && holders[slot]; slot++) {
        }
        if (slot == SLOTS)
            fail("   the swap disk is full\n");
        slot_get(slot);
    }
    disk_page(slot, (void *)page, 1);
    return slot;
}

void swap_in(u32 slot, void *page) {
    disk_page(slot, page, 0);
}
