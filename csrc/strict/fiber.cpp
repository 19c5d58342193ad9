#include "strict/fiber.h"

#include <cstdint>
#include <cstring>

#if NERF_METAL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__APPLE__)
#define SYMBOL "_nerf_metal_fiber_switch"
#define HIDDEN ".private_extern " SYMBOL "\n"  // -fvisibility does not reach assembly
#else
#define SYMBOL "nerf_metal_fiber_switch"
#define HIDDEN ".hidden " SYMBOL "\n"
#endif

#if defined(__x86_64__)
// System V: rbx, rbp, r12 to r15 belong to the caller. Floating-point control words are never changed by a kernel.
__asm__(".text\n.globl " SYMBOL "\n" HIDDEN SYMBOL
        ":\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n");
constexpr int kWords = 8;  // six registers, the return address, and a word that aligns the entry's frame
constexpr int kReturnWord = 6;
#elif defined(__aarch64__)
// AAPCS64: x19 to x30 and the low halves of v8 to v15 belong to the caller.
__asm__(
    ".text\n.globl " SYMBOL "\n" HIDDEN ".p2align 2\n" SYMBOL
    ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n"
    "  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n"
    "  ret\n");
constexpr int kWords = 20;
constexpr int kReturnWord = 11;  // x30
#else
#error "strict mode needs a stack switch for this processor: add one to csrc/strict/fiber.cpp"
#endif

namespace nerf_metal {

void* fiber_prepare(void* top, void (*entry)())
{
    auto address = reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15);
    auto* words = reinterpret_cast<void**>(address) - kWords;
    std::memset(words, 0, kWords * sizeof(void*));
    std::memcpy(&words[kReturnWord], &entry, sizeof(entry));
    return words;
}

#if NERF_METAL_ASAN
// Its checks must know which memory is the stack it runs on, and its own frames on the heap belong to one stack.
void fiber_switch(Stack& from, const Stack& to, bool last)
{
    __sanitizer_start_switch_fiber(last ? nullptr : &from.frames, to.memory, to.bytes);
    nerf_metal_fiber_switch(&from.at, to.at);
    __sanitizer_finish_switch_fiber(from.frames, nullptr, nullptr);
}

// Only the sanitizer knows where a thread's own stack lies.
void fiber_entered(Stack& from)
{
    __sanitizer_finish_switch_fiber(nullptr, &from.memory, &from.bytes);
}

void fiber_forget(void* memory, size_t bytes)
{
    __asan_unpoison_memory_region(memory, bytes);
}
#else
void fiber_switch(Stack& from, const Stack& to, bool)
{
    nerf_metal_fiber_switch(&from.at, to.at);
}

void fiber_entered(Stack&) {}

void fiber_forget(void*, size_t) {}
#endif

}  // namespace nerf_metal
