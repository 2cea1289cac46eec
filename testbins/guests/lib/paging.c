// Identity-mapped page tables, two-level and PAE, with a window of test addresses at WINDOW.
#include "guest.h"

#define MAPPED (32u << 20)
#define TABLES 48

u32 page_directory[1024] __attribute__((aligned(4096)));
u64 pdpt[4] __attribute__((aligned(4096)));
static u64 directories[4][512] __attribute__((aligned(4096)));
static u32 tables[TABLES][1024] __attribute__((aligned(4096)));
static char frames[64][4096] __attribute__((aligned(4096)));
static u32 used;

u32 *new_table(void) {
    if (used == TABLES) {
        say("FAIL out-of-page-tables: raise TABLES in paging.c\n");
        finish();
    }
    memset(tables[used], 0, 4096);
    return tables[used++];
}

u32 frame(u32 n) { return (u32)frames[n]; }

u32 *pde(u32 linear) { return &page_directory[linear >> 22]; }

u32 *pte(u32 linear) { return (u32 *)(*pde(linear) & ~0xfff) + (linear >> 12 & 1023); }

static void set_pte(u32 linear, u32 physical, u32 bits) {
    if (!*pde(linear))
        *pde(linear) = (u32)new_table() | P | W | U;
    *pte(linear) = physical | bits;
}

void map(u32 linear, u32 physical, u32 bits) {
    set_pte(linear, physical, bits);
    if (cr0() & PG)
        invlpg(linear);
}

void paging_on(void) {
    if (!page_directory[0])
        for (u32 at = 0; at < MAPPED; at += 4096)
            set_pte(at, at, P | W | U);
    if (!*pde(WINDOW))
        *pde(WINDOW) = (u32)new_table() | P | W | U;
    set_cr3((u32)page_directory);
    set_cr0(cr0() | PG);
}

void paging_off(void) { set_cr0(cr0() & ~PG); }

u64 *pae_pde(u32 linear) { return &directories[linear >> 30][linear >> 21 & 511]; }

u64 *pae_pte(u32 linear) { return (u64 *)(u32)(*pae_pde(linear) & ~0xfffull) + (linear >> 12 & 511); }

static void pae_set_pte(u32 linear, u64 physical, u64 bits) {
    if (!*pae_pde(linear))
        *pae_pde(linear) = (u32)new_table() | P | W | U;
    *pae_pte(linear) = physical | bits;
}

void pae_map(u32 linear, u64 physical, u64 bits) {
    pae_set_pte(linear, physical, bits);
    if (cr0() & PG)
        invlpg(linear);
}

void pae_on(void) {
    if (!pdpt[0]) {
        for (u32 n = 0; n < 4; n++)
            pdpt[n] = (u32)directories[n] | P;
        for (u32 at = 0; at < MAPPED; at += 4096)
            pae_set_pte(at, at, P | W | U);
        *pae_pde(WINDOW) = (u32)new_table() | P | W | U;
        *pae_pde(WINDOW + (2u << 20)) = (u32)new_table() | P | W | U;
    }
    set_cr4(cr4() | CR4_PAE);
    set_cr3((u32)pdpt);
    set_cr0(cr0() | PG);
}
