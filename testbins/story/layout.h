// Where everything is: addresses and selectors, for C and for assembly.
#ifndef LAYOUT_H
#define LAYOUT_H

// Linear addresses. Every process has the same ones; below INNER_STACKS each process has its own frames behind them.
#define IMAGE 0x00400000         // the program: text, which is read-only, then data
#define HEAP 0x00800000          // grows upwards with the system call `sbrk`
#define HEAP_END 0x10000000
#define SHARED_PAGE 0x20000000   // one page that two processes have in common
#define STACK_TOP 0x40000000     // grows downwards
#define STACK_SIZE 0x4000        // and the page below it is the guard
#define INNER_STACKS 0xBF800000  // per process again, but closed to ring 3: the stacks of rings 1 and 2
#define STACK1_TOP 0xBF802000
#define STACK2_TOP 0xBF804000
#define INNER 0xBFC00000         // code and data of rings 1 and 2, the same frames for all
#define KERNEL 0xC0000000        // the first 4 MiB of memory, the same frames for all

// Physical addresses.
#define POOL 0x002C0000          // pages for page tables
#define POOL_PAGES 64
#define FRAMES_BASE 0x00300000   // the frames that processes get: few on purpose
#define FRAMES 32

// Selectors: index * 8 + requested privilege level.
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE 0x1B
#define USER_DATA 0x23
#define RING1_CODE 0x29
#define RING1_DATA 0x31
#define RING2_CODE 0x3A
#define RING2_DATA 0x42
#define MAIN_TSS 0x48
#define FAULT_TSS 0x50
#define GATE_TO_RING2 0x5B  // a call gate that ring 3 may use
#define GATE_TO_RING1 0x62  // one that ring 2 may use, and ring 3 may not

// System calls: the number in EAX, arguments in EBX and ECX, the answer in EAX.
#define SYS_EXIT 0
#define SYS_WRITE 1
#define SYS_YIELD 2
#define SYS_FORK 3
#define SYS_GETPID 4
#define SYS_SBRK 5
#define SYS_WAIT 6
#define SYS_FRAME 7
#define SYS_SHARE 8
#define SYS_DRAIN 9
#define SYS_DIG 10
#endif
