#include "host/host.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace nerf_metal::host {
namespace {

// Results too small for a normal float become 0 while kernels run, as on a GPU: behind opaque samples
// transmittance is such a number, and x86 is slow with them. Inputs are read as they are (half's own small numbers
// pass through floats like these). Apple's processors lose nothing on them.
class FlushSmallResults {
#if defined(__x86_64__)
public:
    FlushSmallResults() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | kFlushToZero); }
    ~FlushSmallResults() { __builtin_ia32_ldmxcsr(before_); }
    FlushSmallResults(const FlushSmallResults&) = delete;
    FlushSmallResults& operator=(const FlushSmallResults&) = delete;

private:
    static constexpr unsigned kFlushToZero = 1u << 15;  // MXCSR.FTZ
    unsigned before_;
#endif
};

// Tells the processor that this is a loop that waits.
void relax()
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ __volatile__("yield");
#endif
}

// The processor this thread runs on, or -1 where the system does not say.
int processor()
{
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

// Moves this thread off a processor. A worker is often woken on the one of the thread that called it, and a
// scheduler leaves them there for milliseconds while another idles: a launch is over by then, and took twice as
// long.
void leave(int taken)
{
#if defined(__linux__)
    cpu_set_t allowed;
    if (taken < 0 || sched_getcpu() != taken || sched_getaffinity(0, sizeof allowed, &allowed) != 0 ||
        CPU_COUNT(&allowed) < 2) {
        return;
    }
    cpu_set_t others = allowed;
    CPU_CLR(taken, &others);
    sched_setaffinity(0, sizeof others, &others);  // moves at once, and stays when all are allowed again
    sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)taken;
#endif
}

// Waiting is asked so often before it sleeps, about 50 us: a launch takes a few hundred, being woken up to 50.
constexpr int kSpins = 2000;

// What is asked for beyond is a mistake: so many threads share a launch of milliseconds in parts that cost more to
// hand out than to run.
constexpr unsigned kMostThreads = 256;

// Workers that wait for launches. Kept: starting threads costs more than a small launch runs.
class Pool {
public:
    // Calls work on the caller and on up to threads - 1 workers; returns when all of them are through.
    void run(unsigned threads, const std::function<void()>& work)
    {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            for (; workers_ + 1 < threads; ++workers_) {
                try {
                    std::thread([this] { serve(); }).detach();
                } catch (const std::system_error&) {  // no more are to be had: those there are do it
                    break;
                }
            }
            work_ = &work;
            caller_ = processor();
            open_ = threads - 1;
        }
        start_.notify_all();
        work();
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            open_ = 0;  // the caller found nothing left to do: nobody else need begin
        }
        for (int i = 0; i < kSpins && active_ != 0; ++i) {
            relax();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        idle_.wait(lock, [this] { return active_ == 0; });
    }

private:
    void serve()
    {
        for (;;) {
            for (int i = 0; i < kSpins && open_ == 0; ++i) {
                relax();
            }
            std::unique_lock<std::mutex> lock(mutex_);
            if (open_ == 0) {
                start_.wait(lock);
            }
            if (open_ == 0) {
                continue;  // woken too late for a short launch: be awake for the next
            }
            --open_;
            ++active_;
            const auto* work = work_;
            const int caller = caller_;
            lock.unlock();
            leave(caller);
            (*work)();
            lock.lock();
            --active_;
            idle_.notify_one();
        }
    }

    // The counters change under the mutex; spinning reads them without it.
    std::mutex mutex_;
    std::condition_variable start_, idle_;
    const std::function<void()>* work_ = nullptr;
    int caller_ = -1;                  // processor of the thread that launched
    unsigned workers_ = 0;             // threads started
    std::atomic<unsigned> open_{0};    // places left in the current launch
    std::atomic<unsigned> active_{0};  // workers inside it
};

// A part of a launch's grid, on a cache line of its own: its pieces are handed out by counting.
struct alignas(64) Part {
    std::atomic<uint64_t> next{0};
    uint64_t end = 0;
};

// One launch at a time uses the workers; a second one, from another Python thread, runs on its own thread alone.
std::mutex pool_user;
Pool* pool = nullptr;  // never destroyed: its threads live as long as the process

void forget_pool()  // a fork has the object but not its threads
{
    pool = nullptr;
    new (&pool_user) std::mutex;
}

#if defined(__x86_64__)
bool processor_has(const std::string& name)
{
    __builtin_cpu_init();
    if (name == "avx2") {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    if (name == "avx512") {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    return name == "baseline";
}
#else
bool processor_has(const std::string&)
{
    return true;
}
#endif

HostTables tables_of(const Module& module, const std::string& name)
{
    for (size_t i = module.isa_count; i-- > 0;) {
        if (name == module.isas[i].name) {
            return module.isas[i].shaders;
        }
    }
    return module.isas[0].shaders;  // a loaded module may have been built for fewer instruction sets
}

}  // namespace

std::vector<std::string> usable_isas()
{
    std::vector<std::string> names;
    for (size_t i = 0; i < nerf_metal_module.isa_count; ++i) {
        if (processor_has(nerf_metal_module.isas[i].name)) {
            names.emplace_back(nerf_metal_module.isas[i].name);
        }
    }
    return names;
}

const std::string& isa()
{
    static const std::string chosen = [] {
        const auto usable = usable_isas();
        const char* asked = std::getenv("NERF_METAL_HOST_ISA");
        if (asked == nullptr || *asked == '\0') {
            return usable.back();
        }
        if (std::find(usable.begin(), usable.end(), asked) == usable.end()) {
            std::string list;
            for (const auto& name : usable) {
                list += (list.empty() ? "" : ", ") + name;
            }
            throw std::invalid_argument("[host] NERF_METAL_HOST_ISA must be one of " + list +
                                        " on this machine, got '" + asked + "'; unset it to use the best");
        }
        return std::string(asked);
    }();
    return chosen;
}

void run(const Launch& launch, unsigned threads)
{
    const KernelInfo& kernel = *launch.info;
    const auto range = tables_of(*launch.module, isa())[kernel.shader]->kernels[kernel.place].range;
    if (range == nullptr) {
        throw std::invalid_argument(
            std::string("[") + kernel.name +
            "] uses SIMD-group features, which the host runs in strict mode alone; use its plain twin");
    }
    const uint64_t total = launch.threads();
    if (total == 0) {
        return;
    }
    std::vector<void*> buffers;
    for (const Argument& argument : launch.arguments) {
        buffers.push_back(argument.data);
    }
    // Below 64 kernel threads waking workers costs more than they do, unless each is long work.
    const unsigned most = total >= 64 || launch.long_threads ? std::clamp(threads, 1u, kMostThreads) : 1u;
    const auto members = static_cast<unsigned>(std::min<uint64_t>(most, total));
    // Each takes the same part of the grid launch after launch, as torch's threads do of a tensor: its numbers are
    // still in its own cache. Eight pieces each, so that who is through early helps the others.
    std::vector<Part> parts(members);
    for (unsigned i = 0; i < members; ++i) {
        parts[i].next = total * i / members;
        parts[i].end = total * (i + 1) / members;
    }
    const uint64_t piece = std::max<uint64_t>(1, total / (uint64_t(members) * 8));
    std::atomic<unsigned> arrived{0};
    const std::function<void()> work = [&] {
        [[maybe_unused]] const FlushSmallResults flush{};
        const unsigned first = arrived.fetch_add(1);
        for (unsigned i = 0; i < members; ++i) {
            Part& part = parts[(first + i) % members];
            for (uint64_t begin = part.next.fetch_add(piece); begin < part.end;
                 begin = part.next.fetch_add(piece)) {
                range(buffers.data(), launch.params.data(), launch.grid.data(), begin,
                      std::min(begin + piece, part.end));
            }
        }
    };
    std::unique_lock<std::mutex> lock(pool_user, std::defer_lock);
    if (members == 1 || !lock.try_lock()) {
        work();
        return;
    }
    if (pool == nullptr) {
        static const int once = pthread_atfork(nullptr, nullptr, forget_pool);
        (void)once;
        pool = new Pool;
    }
    pool->run(members, work);
}

}  // namespace nerf_metal::host
