// Runs launches that come in on the standard input and answers with what the kernels wrote: the host kernels of
// another processor, for tests that run here (arm64.py holds the other end). Numbers are little-endian.
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "host/host.h"
#include "launcher/launch.h"

namespace {

using namespace nerf_metal;

void get(void* to, size_t bytes)
{
    if (std::fread(to, 1, bytes, stdin) != bytes) {
        throw std::runtime_error("[launches_program] the input must not end inside a launch");
    }
}

void put(const void* from, size_t bytes)
{
    std::fwrite(from, 1, bytes, stdout);
}

uint32_t number()
{
    uint32_t value = 0;
    get(&value, sizeof value);
    return value;
}

// As much as a number before it says. A vector's memory is aligned as tensors' must be, a short string's not.
std::vector<char> counted()
{
    std::vector<char> value(number());
    get(value.data(), value.size());
    return value;
}

// False at the end of the input.
bool serve()
{
    uint32_t length = 0;
    if (std::fread(&length, 1, sizeof length, stdin) != sizeof length) {
        return false;
    }
    std::string name(length, '\0');
    get(&name[0], length);
    Launch launch = find_kernel(name);
    const std::vector<char> params = counted();
    launch.params.assign(params.data(), params.size());
    for (auto* axes : {&launch.grid, &launch.group}) {
        get(axes->data(), sizeof(*axes));
    }
    const uint32_t threads = number();
    launch.long_threads = number() != 0;
    std::vector<std::vector<char>> memory(number());  // of each buffer
    for (std::vector<char>& bytes : memory) {
        Argument argument;
        argument.present = number() != 0;
        argument.dtype = static_cast<DType>(number());
        bytes = counted();
        argument.data = bytes.data();
        argument.elements = bytes.size() / size_of(argument.dtype);
        launch.arguments.push_back(argument);
    }
    std::string error;
    try {
        check(launch);
        host::run(launch, threads);
    } catch (const std::exception& e) {
        error = e.what();
    }
    length = static_cast<uint32_t>(error.size());
    put(&length, sizeof length);
    put(error.data(), length);
    for (size_t i = 0; error.empty() && i < memory.size(); ++i) {
        if (launch.info->buffers[i].writable) {
            put(memory[i].data(), memory[i].size());
        }
    }
    std::fflush(stdout);
    return true;
}

}  // namespace

int main()
{
    while (serve()) {
    }
    return 0;
}
