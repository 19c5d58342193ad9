// A switch between stacks, for the strict executor: a lane stops inside a collective and goes on later.
#pragma once
#include <cstddef>

// Whether AddressSanitizer watches: it must be told of stacks that it has not seen made.
#if defined(__SANITIZE_ADDRESS__)
#define NERF_METAL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NERF_METAL_ASAN 1
#endif
#endif

// Saves the callee-saved registers and the stack pointer into *save, and continues at the stack pointer to.
extern "C" void nerf_metal_fiber_switch(void** save, void* to);

namespace nerf_metal {

// Prepares a stack so that the first switch to it calls entry, which must never return.
// top: one past the highest byte.
void* fiber_prepare(void* top, void (*entry)());

// A stack while another one runs. memory and bytes: where it lies; of a thread's own stack nobody need know.
struct Stack {
    void* at = nullptr;
    const void* memory = nullptr;
    size_t bytes = 0;
    void* frames = nullptr;  // what AddressSanitizer keeps for it
};

// nerf_metal_fiber_switch from one stack to another, which AddressSanitizer hears of. Where it is the last that
// from sees, from's frames are forgotten. What a stack's entry calls first is fiber_entered.
void fiber_switch(Stack& from, const Stack& to, bool last = false);
void fiber_entered(Stack& from);

// Memory that held stacks is about to be given back, or used by others: frames that were never left are forgotten.
void fiber_forget(void* memory, size_t bytes);

}  // namespace nerf_metal
