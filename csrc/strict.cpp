#include "strict.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "fiber.h"
#include "strict_api.h"

namespace nerf_metal::strict {
namespace {

constexpr uint32_t kSimdWidth = 32;
constexpr size_t kStackBytes = 64 << 10;   // a kernel's locals are a few hundred bytes; the rest is never touched
constexpr size_t kSharedLimit = 32 << 10;  // threadgroup memory of every Apple GPU

const char* const kCollectiveNames[] = {
    "threadgroup_barrier",
    "simdgroup_barrier",
    "simd_sum",
    "simd_product",
    "simd_prefix_exclusive_sum",
    "simd_prefix_exclusive_product",
    "simd_shuffle_down",
    "simd_broadcast",
};

enum class State { ready, waiting, done };

struct Lane {
    State state = State::ready;
    Collective at{};
    int line = 0;
    float value = 0;
    unsigned operand = 0;
    void* stack = nullptr;
    ThreadIds ids{};
};

// An access to threadgroup memory: by whom, and in which interval between barriers.
struct Touch {
    int lane;
    unsigned epoch, simd_epoch;
};

// One element of threadgroup memory. All readers of the current interval are kept: the last one alone may be the
// very thread that writes, and hide another.
struct Cell {
    bool written = false;
    Touch writer{-1, 0, 0};
    std::vector<Touch> readers;
};

struct SharedMemory {
    std::vector<unsigned char> bytes;
    std::vector<Cell> cells;
};

uint64_t mix(uint64_t& state)  // splitmix64 (Steele, Lea and Flood 2014)
{
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

class Group {
public:
    explicit Group(const Launch& launch, Order order, uint64_t seed)
        : launch_(launch),
          order_(order),
          random_(seed),
          entry_(launch.module->strict->kernels[launch.index].thread)
    {
        for (const Argument& argument : launch.arguments) {
            buffers_.push_back(argument.data);
        }
        stack_bytes_ = kStackBytes * launch.group[0] * launch.group[1] * launch.group[2];
        stacks_ = mmap(nullptr, stack_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stacks_ == MAP_FAILED) {
            throw std::bad_alloc();
        }
    }
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;
    ~Group() { munmap(stacks_, stack_bytes_); }

    std::string run(Id3 position);  // what went wrong, or nothing
    std::vector<size_t> permutation(size_t n);

    float simd(Collective what, float value, unsigned operand, int line);
    void* cell(int key, const char* name, size_t index, size_t count, size_t element_bytes, Access access);
    [[noreturn]] void body();

private:
    size_t index() const { return static_cast<size_t>(current_ - lanes_.data()); }
    [[noreturn]] void fault(const std::string& text);
    void suspend();
    bool resolve_simd(size_t first);
    bool resolve_barrier();
    void explain();

    const Launch& launch_;
    Order order_;
    uint64_t random_;
    void (*entry_)(void* const*, const void*, const ThreadIds&);
    std::vector<void*> buffers_;
    void* stacks_ = nullptr;
    size_t stack_bytes_ = 0;
    std::vector<Lane> lanes_;
    Lane* current_ = nullptr;
    void* scheduler_ = nullptr;
    std::string error_;
    std::map<int, SharedMemory> shared_;
    size_t shared_bytes_ = 0;
    unsigned epoch_ = 0;
    std::vector<unsigned> simd_epoch_;
};

thread_local Group* active = nullptr;

void start()
{
    active->body();
}

void Group::body()
{
    entry_(buffers_.data(), launch_.params.data(), current_->ids);
    current_->state = State::done;
    suspend();
    std::abort();  // a finished lane is never resumed
}

void Group::suspend()
{
    nerf_metal_fiber_switch(&current_->stack, scheduler_);
}

void Group::fault(const std::string& text)
{
    error_ = text;
    suspend();
    std::abort();  // a faulted launch is never resumed
}

std::vector<size_t> Group::permutation(size_t n)
{
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t(0));
    if (order_ == Order::reversed) {
        std::reverse(order.begin(), order.end());
    } else if (order_ == Order::shuffled) {
        for (size_t i = n; i > 1; --i) {
            std::swap(order[i - 1], order[mix(random_) % i]);
        }
    }
    return order;
}

float Group::simd(Collective what, float value, unsigned operand, int line)
{
    Lane& lane = *current_;
    lane.state = State::waiting;
    lane.at = what;
    lane.line = line;
    lane.value = value;
    lane.operand = operand;
    suspend();
    return lane.value;
}

void* Group::cell(int key, const char* name, size_t index, size_t count, size_t element_bytes, Access access)
{
    const int me = static_cast<int>(this->index());
    const auto who = [&](int lane) { return "thread " + std::to_string(lane); };
    const std::string what = std::string(name) + "[" + std::to_string(index) + "]";
    if (index >= count) {
        fault(who(me) + " uses " + what + ", but the array has " + std::to_string(count) + " elements");
    }
    SharedMemory& memory = shared_[key];
    if (memory.cells.empty()) {
        shared_bytes_ += count * element_bytes;
        if (shared_bytes_ > kSharedLimit) {
            fault("needs more than 32768 bytes of threadgroup memory at " + std::string(name));
        }
        memory.bytes.resize(count * element_bytes);
        memory.cells.resize(count);
    }
    Cell& cell = memory.cells[index];
    const Touch now{me, epoch_, simd_epoch_[me / kSimdWidth]};
    // Two lanes are ordered by a threadgroup barrier, or within one SIMD-group by any of its collectives.
    const auto unordered = [&now](const Touch& other) {
        return other.lane >= 0 && other.lane != now.lane && other.epoch == now.epoch &&
               (other.lane / int(kSimdWidth) != now.lane / int(kSimdWidth) || other.simd_epoch == now.simd_epoch);
    };
    if (access == Access::read && !cell.written) {
        fault(who(me) + " reads " + what + " of threadgroup memory, which nobody has written");
    }
    if (unordered(cell.writer)) {
        fault(who(me) + (access == Access::read ? " reads " : " writes ") + what + ", which " +
              who(cell.writer.lane) + " has written since the last barrier");
    }
    if (!cell.readers.empty() && cell.readers.front().epoch != epoch_) {
        cell.readers.clear();
    }
    if (access == Access::read) {
        cell.readers.push_back(now);
    } else {
        for (const Touch& reader : cell.readers) {
            if (unordered(reader)) {
                fault(who(me) + " writes " + what + ", which " + who(reader.lane) +
                      " has read since the last barrier");
            }
        }
        cell.written = true;
        cell.writer = now;
    }
    return memory.bytes.data() + index * element_bytes;
}

// Carries out a collective that every lane of a SIMD-group has reached. False while some have not.
bool Group::resolve_simd(size_t first)
{
    const size_t last = std::min(first + kSimdWidth, lanes_.size());
    const Lane& one = lanes_[first];
    for (size_t i = first; i < last; ++i) {
        const Lane& lane = lanes_[i];
        if (lane.state != State::waiting || lane.at == Collective::threadgroup_barrier || lane.at != one.at ||
            lane.line != one.line) {
            return false;
        }
    }
    const Collective what = one.at;
    float in[kSimdWidth];
    for (size_t i = first; i < last; ++i) {
        in[i - first] = lanes_[i].value;
    }
    const size_t n = last - first;
    float total = what == Collective::product || what == Collective::prefix_exclusive_product ? 1.0f : 0.0f;
    for (size_t i = 0; i < n; ++i) {
        Lane& lane = lanes_[first + i];
        switch (what) {
            case Collective::sum:
                total += in[i];
                break;
            case Collective::product:
                total *= in[i];
                break;
            case Collective::prefix_exclusive_sum:
                lane.value = total;
                total += in[i];
                break;
            case Collective::prefix_exclusive_product:
                lane.value = total;
                total *= in[i];
                break;
            // Metal leaves lanes past the end undefined: NaN, so that a use of them shows.
            case Collective::shuffle_down:
                lane.value = i + lane.operand < n ? in[i + lane.operand] : __builtin_nanf("");
                break;
            case Collective::broadcast:
                lane.value = lane.operand < n ? in[lane.operand] : __builtin_nanf("");
                break;
            default:
                break;
        }
        lane.state = State::ready;
    }
    if (what == Collective::sum || what == Collective::product) {
        for (size_t i = first; i < last; ++i) {
            lanes_[i].value = total;
        }
    }
    ++simd_epoch_[first / kSimdWidth];
    return true;
}

bool Group::resolve_barrier()
{
    for (const Lane& lane : lanes_) {
        if (lane.state != State::waiting || lane.at != Collective::threadgroup_barrier ||
            lane.line != lanes_[0].line) {
            return false;
        }
    }
    for (Lane& lane : lanes_) {
        lane.state = State::ready;
    }
    ++epoch_;
    return true;
}

// No lane can go on: two that disagree, one of them waiting, say why.
void Group::explain()
{
    const auto place = [](const Lane& lane) {
        if (lane.state == State::done) {
            return std::string("has left the kernel");
        }
        return std::string("is at ") + kCollectiveNames[static_cast<unsigned>(lane.at)] + " on line " +
               std::to_string(lane.line);
    };
    for (size_t i = 0; i < lanes_.size(); ++i) {
        const Lane& a = lanes_[i];
        if (a.state != State::waiting) {
            continue;
        }
        const bool whole_group = a.at == Collective::threadgroup_barrier;
        const size_t first = whole_group ? 0 : i / kSimdWidth * kSimdWidth;
        const size_t last = whole_group ? lanes_.size() : std::min(first + kSimdWidth, lanes_.size());
        for (size_t j = first; j < last; ++j) {
            const Lane& b = lanes_[j];
            if (b.state == State::done || b.at != a.at || b.line != a.line) {
                error_ = "divergent collective: thread " + std::to_string(i) + " " + place(a) + ", thread " +
                         std::to_string(j) + " " + place(b);
                return;
            }
        }
    }
    error_ = "no thread can go on";
}

std::string Group::run(Id3 position)
{
    std::array<uint32_t, 3> size{};
    const uint32_t at[3] = {position.x, position.y, position.z};
    for (int axis = 0; axis < 3; ++axis) {  // the last group of an axis holds what is left of the grid
        size[axis] = std::min(launch_.group[axis], launch_.grid[axis] - at[axis] * launch_.group[axis]);
    }
    lanes_.assign(size_t(size[0]) * size[1] * size[2], Lane{});
    simd_epoch_.assign((lanes_.size() + kSimdWidth - 1) / kSimdWidth, 0);
    shared_.clear();
    shared_bytes_ = 0;
    epoch_ = 0;
    active = this;
    for (size_t i = 0; i < lanes_.size(); ++i) {
        const auto n = static_cast<uint32_t>(i);
        const Id3 inside{n % size[0], n / size[0] % size[1], n / size[0] / size[1]};
        lanes_[i].ids = {{position.x * launch_.group[0] + inside.x, position.y * launch_.group[1] + inside.y,
                          position.z * launch_.group[2] + inside.z},
                         position,
                         inside,
                         n,
                         n % kSimdWidth,
                         n / kSimdWidth};
        lanes_[i].stack = fiber_prepare(static_cast<char*>(stacks_) + kStackBytes * (i + 1), &start);
    }
    for (bool going = true; going;) {
        for (const size_t i : permutation(lanes_.size())) {
            if (lanes_[i].state == State::ready) {
                current_ = &lanes_[i];
                nerf_metal_fiber_switch(&scheduler_, current_->stack);
                if (!error_.empty()) {
                    return error_;
                }
            }
        }
        going = false;
        for (size_t first = 0; first < lanes_.size(); first += kSimdWidth) {
            going = resolve_simd(first) || going;
        }
        going = resolve_barrier() || going;
    }
    for (const Lane& lane : lanes_) {
        if (lane.state == State::waiting) {
            explain();
            break;
        }
    }
    return error_;
}

}  // namespace

float simd(Collective what, float value, unsigned operand, int line)
{
    return active->simd(what, value, operand, line);
}

void barrier(Collective what, int line)
{
    active->simd(what, 0.0f, 0u, line);
}

void* shared_cell(int key, const char* name, unsigned long index, unsigned long count, unsigned long element_bytes,
                  Access access)
{
    return active->cell(key, name, index, count, element_bytes, access);
}

void run(const Launch& launch, Order order, uint64_t seed)
{
    if (launch.threads() == 0) {
        return;
    }
    Group group(launch, order, seed);
    uint32_t groups[3];
    for (int axis = 0; axis < 3; ++axis) {
        groups[axis] =
            static_cast<uint32_t>((uint64_t(launch.grid[axis]) + launch.group[axis] - 1) / launch.group[axis]);
    }
    for (const size_t i : group.permutation(size_t(groups[0]) * groups[1] * groups[2])) {
        const auto n = static_cast<uint32_t>(i);
        const std::string error = group.run({n % groups[0], n / groups[0] % groups[1], n / groups[0] / groups[1]});
        if (!error.empty()) {
            throw std::runtime_error(std::string("[") + launch.info->name + "] " + error);
        }
    }
}

}  // namespace nerf_metal::strict
