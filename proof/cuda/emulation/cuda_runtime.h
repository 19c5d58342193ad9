// As much of CUDA as the generated files, the headers of proof/cuda and the launcher use, for g++ on a processor:
// each thread of a block is a fiber, and a shuffle or barrier holds it until those it waits for have come. So the
// text that nvcc compiles runs where there is no GPU; what nvcc and a GPU make of it, this cannot tell.
#pragma once
#include <xmmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "strict/fiber.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __shared__ static  // one block runs at a time
#define __trap() emulation::complain("trap")

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
inline dim3 threadIdx, blockIdx, blockDim;

namespace emulation {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 1 << 16;

// Threads that wait for one another: those of a warp, or of a block.
struct Meeting {
    unsigned living = 0, arrived = 0, times = 0;
    float values[2][kWarp];  // of this time and the last: no thread is two ahead
    bool came[2][kWarp];     // and shuffled: who waits at a barrier gives no value

    // Lets all on. By now nobody reads any more what was given the time before.
    void end()
    {
        arrived = 0;
        ++times;
        std::fill_n(came[times % 2], kWarp, false);
    }
};

struct Thread {
    void* stack_pointer;
    dim3 index;
    Meeting* waits_for = nullptr;
    unsigned since = 0;
    bool done = false;
};

inline std::vector<Thread> threads;
inline std::vector<Meeting> warps;
inline Meeting block;
inline size_t current;
inline void* scheduler;
inline const std::function<void()>* body;
inline std::string complaint;  // of a thread: it cannot throw from its own stack

inline void complain(const std::string& text)
{
    complaint = text;
}

inline void arrive(Meeting& meeting)
{
    Thread& me = threads[current];
    me.waits_for = &meeting;
    me.since = meeting.times;
    if (++meeting.arrived == meeting.living) {
        meeting.end();
    }
    nerf_metal_fiber_switch(&me.stack_pointer, scheduler);
}

inline void main_of_thread()
{
    (*body)();
    threads[current].done = true;
    // who has left is waited for no more, as on the GPU
    for (Meeting* meeting : {&warps[current / kWarp], &block}) {
        if (--meeting->living == meeting->arrived && meeting->arrived != 0) {
            meeting->end();
        }
    }
    void* nowhere;
    nerf_metal_fiber_switch(&nowhere, scheduler);
}

inline float exchange(float value, unsigned from)
{
    const unsigned lane = current % kWarp;
    Meeting& warp = warps[current / kWarp];
    const unsigned slot = warp.times % 2;
    warp.values[slot][lane] = value;
    warp.came[slot][lane] = true;
    arrive(warp);
    if (!warp.came[slot][from]) {
        complain("lane " + std::to_string(lane) + " reads from lane " + std::to_string(from) +
                 ", which gives none");
    }
    return warp.values[slot][from];
}

// Lets those threads on that need not wait; whether there were any.
inline bool run_warp(size_t first, size_t end)
{
    bool moved = false;
    for (current = first; current < end; ++current) {
        Thread& next = threads[current];
        if (next.done || (next.waits_for != nullptr && next.waits_for->times == next.since)) {
            continue;
        }
        moved = true;
        threadIdx = next.index;
        nerf_metal_fiber_switch(&scheduler, next.stack_pointer);
    }
    return moved;
}

inline void run_block(unsigned count)
{
    static std::vector<char> stacks;
    stacks.resize(count * kStack);
    threads.assign(count, {});
    warps.assign((count + kWarp - 1) / kWarp, {});
    block = {};
    block.living = count;
    complaint.clear();  // of a block whose threads waited in vain
    for (unsigned i = 0; i < count; ++i) {
        ++warps[i / kWarp].living;
        threads[i].index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
        threads[i].stack_pointer = nerf_metal::fiber_prepare(&stacks[(i + 1) * kStack - 1], &main_of_thread);
    }
    // A warp goes as far as it can before the next: what it needs of others is there only behind a barrier.
    for (bool moved = true; moved;) {
        moved = false;
        for (unsigned first = 0; first < count; first += kWarp) {
            while (run_warp(first, first + kWarp < count ? first + kWarp : count)) {
                moved = true;
            }
        }
    }
    for (const Thread& thread : threads) {
        if (!thread.done) {
            throw std::runtime_error("threads wait for others that do not come");
        }
    }
    if (!complaint.empty()) {
        throw std::runtime_error(complaint);
    }
}

// Denormals are 0, in and out, as with -ftz=true.
class FlushSmall {
public:
    FlushSmall() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushSmall() { _mm_setcsr(before_); }

private:
    unsigned before_;
};

inline void run_grid(unsigned blocks, dim3 size, const std::function<void()>& work)
{
    const FlushSmall flush;
    body = &work;
    blockDim = size;
    for (blockIdx = dim3(0); blockIdx.x < blocks; ++blockIdx.x) {
        run_block(size.x * size.y * size.z);
    }
}

}  // namespace emulation

// ---- device functions ----
inline float __shfl_sync(unsigned, float value, unsigned lane)
{
    return emulation::exchange(value, lane % 32);
}
inline float __shfl_xor_sync(unsigned, float value, unsigned mask)
{
    return emulation::exchange(value, emulation::current % 32 ^ mask);
}
inline float __shfl_up_sync(unsigned, float value, unsigned delta)
{
    const unsigned lane = emulation::current % 32;
    return emulation::exchange(value, lane < delta ? lane : lane - delta);
}
inline float __shfl_down_sync(unsigned, float value, unsigned delta)
{
    const unsigned lane = emulation::current % 32;
    return emulation::exchange(value, lane + delta > 31 ? lane : lane + delta);
}
inline void __syncwarp()
{
    emulation::arrive(emulation::warps[emulation::current / 32]);
}
inline void __syncthreads()
{
    emulation::arrive(emulation::block);
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return unsigned(uint64_t(a) * b >> 32);
}
template <typename T>
T atomicAdd(T* at, T value)
{
    const T before = *at;
    *at += value;
    return before;
}
inline unsigned atomicMax(unsigned* at, unsigned value)
{
    const unsigned before = *at;
    *at = before < value ? value : before;
    return before;
}

// ---- the run-time library, of which nothing fails ----
enum cudaError_t { cudaSuccess };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
inline const char* cudaGetErrorString(cudaError_t)
{
    return "no error";
}
inline int cudaMalloc(void** memory, size_t bytes)
{
    *memory = std::malloc(bytes);
    return cudaSuccess;
}
inline void cudaFree(void* memory)
{
    std::free(memory);
}
inline int cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind)
{
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
inline int cudaDeviceSynchronize()
{
    return cudaSuccess;
}
