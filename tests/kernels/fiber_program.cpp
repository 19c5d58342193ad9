// The strict executor in a program of its own, to be run on an emulated processor: the stack switch of
// csrc/strict/fiber.cpp is written by hand for each. It prints what it computed; every processor must print the
// same.
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "strict/fiber.h"
#include "launcher/launch.h"
#include "strict/strict.h"

namespace {

using namespace nerf_metal;

constexpr int kFibers = 3;
constexpr int kRounds = 1000;

void* scheduler = nullptr;
void* stacks[kFibers];
int current = 0;
double results[kFibers];
alignas(16) unsigned char memory[kFibers][64 << 10];

// Scalars, not an array: the compiler keeps as many as it can in the registers that a switch must save.
struct State {
    double a, b, c, d, e, f, g, h;
    long i, j, k, l, m;

    explicit State(int me)
        : a(me),
          b(me + 1),
          c(me + 2),
          d(me + 3),
          e(me + 4),
          f(me + 5),
          g(me + 6),
          h(me + 7),
          i(10 * me + 1),
          j(10 * me + 2),
          k(10 * me + 3),
          l(10 * me + 4),
          m(10 * me + 5)
    {
    }
    void step()
    {
        a = 0.5 * a + double(i % 7);
        b = 0.5 * b + double(j % 7);
        c = 0.5 * c + double(k % 7);
        d = 0.5 * d + double(l % 7);
        e = 0.5 * e + double(m % 7);
        f = 0.5 * f + double(i % 5);
        g = 0.5 * g + double(j % 5);
        h = 0.5 * h + double(k % 5);
        i = i * 3 % 1009;
        j = j * 5 % 1013;
        k = k * 7 % 1019;
        l = l * 11 % 1021;
        m = m * 13 % 1031;
    }
    double sum() const { return a + b + c + d + e + f + g + h + double(i + j + k + l + m); }
};

void fiber()
{
    const int me = current;
    State state(me);
    for (int round = 0; round < kRounds; ++round) {
        nerf_metal_fiber_switch(&stacks[me], scheduler);
        state.step();
    }
    results[me] = state.sum();
    for (;;) {
        nerf_metal_fiber_switch(&stacks[me], scheduler);
    }
}

// The same without a switch.
double expected(int me)
{
    State state(me);
    for (int round = 0; round < kRounds; ++round) {
        state.step();
    }
    return state.sum();
}

bool registers_survive()
{
    for (int i = 0; i < kFibers; ++i) {
        stacks[i] = fiber_prepare(memory[i] + sizeof(memory[i]), &fiber);
    }
    for (int round = 0; round <= kRounds; ++round) {
        for (current = 0; current < kFibers; ++current) {
            const int at = current;
            nerf_metal_fiber_switch(&scheduler, stacks[at]);
        }
    }
    bool same = true;
    for (int i = 0; i < kFibers; ++i) {
        same = same && std::fabs(results[i] - expected(i)) < 1e-9 * std::fabs(expected(i));
    }
    return same;
}

void run(const char* name, std::vector<Argument> arguments, const std::vector<uint32_t>& params, uint32_t n)
{
    for (const auto order : {strict::Order::forward, strict::Order::reversed, strict::Order::shuffled}) {
        try {
            Launch launch = find_kernel(name);
            launch.arguments = arguments;
            launch.params.assign(reinterpret_cast<const char*>(params.data()), params.size() * sizeof(uint32_t));
            launch.grid = {n, 1, 1};
            launch.group = {128, 1, 1};
            check(launch);
            strict::run(launch, order, 7);
            std::printf("%s ran\n", name);
        } catch (const std::exception& e) {
            std::printf("%s\n", e.what());
        }
    }
}

}  // namespace

int main()
{
    std::printf("registers %s\n", registers_survive() ? "survive" : "are lost");
    constexpr uint32_t n = 256;
    std::vector<float> x(n);
    std::vector<float> y(6 * n);
    for (uint32_t i = 0; i < n; ++i) {
        x[i] = 0.5f + float(i % 32) / 32.0f;
    }
    const Argument in{x.data(), x.size(), DType::float_, true};
    const Argument out{y.data(), y.size(), DType::float_, true};
    for (const char* name : {"right_reduce_f32", "right_tree_f32", "right_swap_f32"}) {
        run(name, {in, out}, {n}, n);
        std::printf("%.9g %.9g\n", y[0], y[1]);
    }
    for (const char* name : {"right_rotate_f32", "right_simd_f32"}) {
        run(name, {in, out}, {n, 5}, n);
        double sum = 0;
        for (const float value : y) {
            sum += std::isnan(value) ? 1000.0 : double(value);
        }
        std::printf("%.9g\n", sum);
    }
    y.assign(y.size(), 0.0f);
    run("right_product_f32", {in, in, out}, {16, 16, 16}, 128);  // adds to y; all of it exact, in any order
    std::printf("%.9g %.9g\n", y[0], y[255]);
    for (const char* name : {"wrong_divergent_if", "wrong_two_branches", "wrong_early_return", "wrong_unwritten",
                             "wrong_read_write", "wrong_range", "wrong_memory", "wrong_matrix_race"}) {
        run(name, {out}, {128}, 128);
    }
    return 0;
}
