#include "strict/strict.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <numeric>
#include <stdexcept>

#include "strict/fiber.h"
#include "strict/strict_api.h"
#include "strict/strict_memory.h"
#include "strict/strict_simd.h"

namespace nerf_metal::strict {
namespace {

// The MLP's rows take 200 KB, half as much again where AddressSanitizer parts the variables. What a kernel never
// touches costs nothing.
constexpr size_t kStackBytes = 512 << 10;

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
          entry_(launch.module->strict[launch.info->shader]->kernels[launch.info->place].thread)
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
    ~Group()
    {
        fiber_forget(stacks_, stack_bytes_);
        munmap(stacks_, stack_bytes_);
    }

    std::string run(Id3 position);  // what went wrong, or nothing
    std::vector<size_t> permutation(size_t n);

    Lane& wait(Collective what, int line);  // the current lane, after the collective
    Lane& current() { return *current_; }
    void* cell(const SharedArray& array, size_t index, Access access, int line);
    void entered() { fiber_entered(scheduler_); }
    [[noreturn]] void body();

private:
    size_t index() const { return static_cast<size_t>(current_ - lanes_.data()); }
    void suspend(bool last = false);
    bool resolve_simd(size_t first);
    bool resolve_barrier();

    const Launch& launch_;
    Order order_;
    uint64_t random_;
    void (*entry_)(void* const*, const void*, const ThreadIds&);
    std::vector<void*> buffers_;
    void* stacks_ = nullptr;
    size_t stack_bytes_ = 0;
    std::vector<Lane> lanes_;
    Lane* current_ = nullptr;
    Stack scheduler_;
    std::string error_;
    ThreadgroupMemory memory_;
};

thread_local Group* active = nullptr;

void start()
{
    active->entered();
    active->body();
}

void Group::body()
{
    entry_(buffers_.data(), launch_.params.data(), current_->ids);
    current_->state = State::done;
    suspend(true);
    std::abort();  // a finished lane is never resumed
}

void Group::suspend(bool last)
{
    fiber_switch(current_->stack, scheduler_, last);
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

// The caller has put into the current lane what the collective takes.
Lane& Group::wait(Collective what, int line)
{
    Lane& lane = *current_;
    lane.state = State::waiting;
    lane.at = what;
    lane.line = line;
    suspend();
    return lane;
}

void* Group::cell(const SharedArray& array, size_t index, Access access, int line)
{
    void* const found = memory_.cell(array, index, access, this->index(), line, error_);
    if (found == nullptr) {
        suspend();
        std::abort();  // a faulted launch is never resumed
    }
    return found;
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
    error_ = carry_out(&lanes_[first], last - first);
    if (one.at == Collective::simdgroup_barrier && one.operand != 0) {
        memory_.simdgroup_barrier(first / kSimdWidth);
    }
    for (size_t i = first; i < last; ++i) {
        lanes_[i].state = State::ready;
    }
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
    if (lanes_[0].operand != 0) {
        memory_.barrier();
    }
    return true;
}

std::string Group::run(Id3 position)
{
    std::array<uint32_t, 3> size{};
    const uint32_t at[3] = {position.x, position.y, position.z};
    for (int axis = 0; axis < 3; ++axis) {  // the last group of an axis holds what is left of the grid
        size[axis] = std::min(launch_.group[axis], launch_.grid[axis] - at[axis] * launch_.group[axis]);
    }
    lanes_.assign(size_t(size[0]) * size[1] * size[2], Lane{});
    memory_.reset(lanes_.size());
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
        char* const memory = static_cast<char*>(stacks_) + kStackBytes * i;
        lanes_[i].stack = {fiber_prepare(memory + kStackBytes, &start), memory, kStackBytes, nullptr};
    }
    for (bool going = true; going;) {
        for (const size_t i : permutation(lanes_.size())) {
            if (lanes_[i].state == State::ready) {
                current_ = &lanes_[i];
                fiber_switch(scheduler_, current_->stack);
                if (!error_.empty()) {
                    return error_;
                }
            }
        }
        going = false;
        for (size_t first = 0; first < lanes_.size(); first += kSimdWidth) {
            going = resolve_simd(first) || going;
            if (!error_.empty()) {
                return error_;
            }
        }
        going = resolve_barrier() || going;
    }
    for (const Lane& lane : lanes_) {
        if (lane.state == State::waiting) {
            return divergence(lanes_);
        }
    }
    return "";
}

}  // namespace

float simd(Collective what, float value, unsigned operand, int line)
{
    active->current().value = value;
    active->current().operand = operand;
    return active->wait(what, line).value;
}

void barrier(Collective what, bool threadgroup_memory, int line)
{
    active->current().operand = threadgroup_memory;
    active->wait(what, line);
}

unsigned matrix(Collective what, const MatrixArguments& arguments, int line)
{
    active->current().arguments = arguments;
    return active->wait(what, line).ids.lane;
}

void matrix_multiply(Collective what, const float* a, const float* b, const float* c, float* d, int line)
{
    Lane& lane = active->current();
    std::copy(a, a + 2, lane.a);
    std::copy(b, b + 2, lane.b);
    std::copy(c, c + 2, lane.c);
    active->wait(what, line);
    std::copy(lane.c, lane.c + 2, d);
}

void* shared_cell(const SharedArray& array, unsigned long index, Access access, int line)
{
    return active->cell(array, index, access, line);
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
