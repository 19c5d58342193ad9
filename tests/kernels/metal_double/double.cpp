// Metal's stand-in on Linux: the functions aoti_torch_mps_* as libtorch has them on macOS, stricter than they are.
// Each call is written to a log and checked against the order that Metal needs; a dispatch runs the kernel on CPU
// tensors through somebody's nerf_metal_execute: the extension's own, of the kernel's host form, or proof/cuda's.
#include "double.h"

#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

EXPORT Error aoti_torch_get_data_ptr(Handle tensor, void** data);
EXPORT Error aoti_torch_get_storage_offset(Handle tensor, int64_t* offset);

namespace {

using Execute = int (*)(const char*, void* const*, size_t, const void*, size_t, const uint32_t*, const uint32_t*,
                        char*, size_t);

struct Function {
    std::string name;
    uint64_t most_threads;  // maxTotalThreadsPerThreadgroup of its pipeline
};

struct Library {
    std::string source;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Failure {
    std::string call;
    int countdown = 0;  // fails when it reaches 0
    std::string text;
};

constexpr size_t kSmallBytes = 8;       // go through set_arg_int
constexpr size_t kLargestBytes = 4096;  // of setBytes
constexpr unsigned kArguments = 31;     // of a compute encoder
constexpr uint64_t kThreads = 1024;     // of a threadgroup, where a pipeline's registers allow it

Execute execute = nullptr;
std::vector<std::unique_ptr<Library>> libraries;
std::string log_text;
std::string error_text;
Failure failure;
Handle block = nullptr;     // the function whose command block runs
Handle encoding = nullptr;  // the function whose encoding has begun
double patience = 0.0;  // seconds that a block may take with the interpreter's lock held elsewhere; 0: not held
bool refused = false;   // a call in this block has returned an error
std::map<unsigned, void*> tensors;
std::map<unsigned, std::string> constants;
std::map<std::string, uint64_t> limits;  // of pipelines made from now on

std::string hex(const void* bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    std::string text;
    for (size_t i = 0; i < size; ++i) {
        const auto byte = static_cast<const unsigned char*>(bytes)[i];
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

// One line of JSON; fields is what follows the call's name.
void record(const std::string& call, const std::string& fields)
{
    log_text += "{\"call\": \"" + call + "\"" + (fields.empty() ? "" : ", " + fields) + "}\n";
}

Error fail(const std::string& text)
{
    error_text = text;
    refused = true;
    return 1;
}

// Whether the test asked for a failure of this call.
bool injected(const char* call)
{
    if (failure.call != call || --failure.countdown != 0) {
        return false;
    }
    fail(failure.text);
    failure = {};
    return true;
}

template <typename F>
F interpreter(const char* name)
{
    void* symbol = dlsym(RTLD_DEFAULT, name);
    F function = nullptr;
    std::memcpy(&function, &symbol, sizeof(function));
    return function;
}

// Holds the interpreter's lock while a block runs, as another thread may that waits for torch's queue: work that
// needs the lock too stands still, and is found out.
class Hostage {
public:
    Hostage() : thread_([this] { hold(); })
    {
        std::unique_lock<std::mutex> lock(mutex_);
        change_.wait(lock, [this] { return held_; });
    }

    // Whether the work went on only after the lock was given back.
    bool release()
    {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            done_ = true;
        }
        change_.notify_all();
        thread_.join();
        return late_;
    }

private:
    void hold()
    {
        const int state = interpreter<int (*)()>("PyGILState_Ensure")();
        {
            std::unique_lock<std::mutex> lock(mutex_);
            held_ = true;
            change_.notify_all();
            late_ = !change_.wait_for(lock, std::chrono::duration<double>(patience), [this] { return done_; });
        }
        interpreter<void (*)(int)>("PyGILState_Release")(state);
    }

    std::mutex mutex_;
    std::condition_variable change_;
    bool held_ = false;
    bool done_ = false;
    bool late_ = false;
    std::thread thread_;  // last: it uses the others
};

Error need_no_interpreter(const char* call)
{
    static const auto holds_lock = interpreter<int (*)()>("PyGILState_Check");
    return holds_lock() != 0
               ? fail(std::string("double: ") + call + " by a thread that holds the interpreter's lock")
               : 0;
}

Error need_no_block(const char* call)
{
    return block != nullptr ? fail(std::string("double: ") + call + " inside run_command_block") : 0;
}

Error need_encoding(Handle function, const char* call)
{
    if (need_no_interpreter(call) != 0) {
        return 1;
    }
    if (block == nullptr || block != function) {
        return fail(std::string("double: ") + call + " outside run_command_block of its kernel");
    }
    if (encoding != function) {
        return fail(std::string("double: ") + call + " before start_encoding");
    }
    return 0;
}

Error need_free(unsigned index, const char* call)
{
    if (index >= kArguments) {
        return fail(std::string("double: ") + call + " of index " + std::to_string(index) + ", there are 31");
    }
    if (tensors.count(index) + constants.count(index) != 0) {
        return fail(std::string("double: ") + call + " binds index " + std::to_string(index) + " twice");
    }
    return 0;
}

std::string list_of(const uint64_t* values, size_t count)
{
    std::string text;
    for (size_t i = 0; i < count; ++i) {
        text += (i == 0 ? "[" : ", ") + std::to_string(values[i]);
    }
    return text + "]";
}

Error bind_bytes(Handle function, unsigned index, const void* bytes, size_t size, const char* by)
{
    record(by, "\"index\": " + std::to_string(index) + ", \"bytes\": \"" + hex(bytes, size) + "\"");
    if (injected(by)) {
        return 1;
    }
    if (need_encoding(function, by) != 0 || need_free(index, by) != 0) {
        return 1;
    }
    constants[index].assign(static_cast<const char*>(bytes), size);
    return 0;
}

Error run(const Function& function, const uint64_t* grid, const uint64_t* group)
{
    const size_t count = tensors.size();
    std::vector<void*> buffers;
    for (unsigned i = 0; i < count; ++i) {
        if (tensors.count(i) == 0) {
            return fail("double: dispatch with index " + std::to_string(i) + " not bound to a tensor");
        }
        buffers.push_back(tensors[i]);
    }
    const auto last = constants.find(static_cast<unsigned>(count));
    if (constants.size() != 1 || last == constants.end()) {
        return fail("double: dispatch needs the argument struct, and it alone, after the tensors");
    }
    alignas(16) unsigned char params[kLargestBytes];
    std::memcpy(params, last->second.data(), last->second.size());
    uint32_t threads[3];
    uint32_t threadgroup[3];
    for (int axis = 0; axis < 3; ++axis) {
        threads[axis] = static_cast<uint32_t>(grid[axis]);
        threadgroup[axis] = static_cast<uint32_t>(group[axis]);
    }
    char error[512] = {};
    if (execute(function.name.c_str(), buffers.data(), count, params, last->second.size(), threads, threadgroup,
                error, sizeof(error)) != 0) {
        return fail(error);
    }
    return 0;
}

}  // namespace

namespace metal_double {

Error bind_struct(Handle function, unsigned index, const void* bytes, size_t size, const char* by)
{
    if (size <= kSmallBytes || size > kLargestBytes) {
        return fail(std::string("double: ") + by + " of " + std::to_string(size) + " bytes");
    }
    return bind_bytes(function, index, bytes, size, by);
}

const char* what()
{
    return error_text.c_str();
}

}  // namespace metal_double

// ---- for the tests ----
EXPORT int double_open(const char* executor)
{
    void* library = dlopen(executor, RTLD_NOLOAD | RTLD_LAZY);
    void* symbol = library != nullptr ? dlsym(library, "nerf_metal_execute") : nullptr;
    std::memcpy(&execute, &symbol, sizeof(execute));
    return execute != nullptr ? 0 : 1;
}

EXPORT const char* double_log()
{
    return log_text.c_str();
}

EXPORT void double_clear()
{
    log_text.clear();
    error_text.clear();
    failure = {};
    limits.clear();
}

// What was compiled and not yet forgotten by the extension would dangle: only right after it has loaded this
// library.
EXPORT void double_forget_libraries()
{
    libraries.clear();
}

EXPORT void double_patience(double seconds)
{
    patience = seconds;
}

EXPORT void double_limit(const char* kernel, uint64_t threads)
{
    limits[kernel] = threads;
}

EXPORT void double_fail(const char* call, int time, const char* text)
{
    failure = {call, time, text};
}

// ---- as in torch/csrc/inductor/aoti_torch/c/shim_mps.h ----
EXPORT Error aoti_torch_mps_create_shader_library(const char* source, Handle* library)
{
    record("create_shader_library", "\"length\": " + std::to_string(std::strlen(source)));
    if (injected("create_shader_library") || need_no_block("create_shader_library") != 0) {
        return 1;
    }
    const std::string text = source;
    for (const char c : text) {
        if (static_cast<unsigned char>(c) > 127) {
            return fail("double: the source must be ASCII");
        }
    }
    if (text.find("#include \"") != std::string::npos) {
        return fail("double: the source must be one string, found #include \"");
    }
    const size_t bad = text.find("#error");
    if (bad != std::string::npos) {
        return fail("program_source: error: " + text.substr(bad, text.find('\n', bad) - bad));
    }
    libraries.push_back(std::make_unique<Library>());
    libraries.back()->source = text;
    *library = libraries.back().get();
    return 0;
}

EXPORT Error aoti_torch_mps_get_kernel_function(Handle library, const char* name, Handle* function)
{
    record("get_kernel_function", std::string("\"name\": \"") + name + "\"");
    if (injected("get_kernel_function") || need_no_block("get_kernel_function") != 0) {
        return 1;
    }
    auto& from = *static_cast<Library*>(library);
    if (from.source.find(std::string("kernel void ") + name + "(") == std::string::npos &&
        from.source.find(std::string("INSTANTIATE(") + name + ",") == std::string::npos) {
        return fail(std::string("double: the source holds no kernel ") + name);
    }
    auto& slot = from.functions[name];
    if (slot == nullptr) {
        const auto limit = limits.find(name);
        slot = std::make_unique<Function>(Function{name, limit != limits.end() ? limit->second : kThreads});
    }
    *function = slot.get();
    return 0;
}

EXPORT Error aoti_torch_mps_start_encoding(Handle function)
{
    record("start_encoding", "");
    if (injected("start_encoding") || need_no_interpreter("start_encoding") != 0) {
        return 1;
    }
    if (block == nullptr || block != function) {
        return fail("double: start_encoding outside run_command_block of its kernel");
    }
    if (encoding != nullptr) {
        return fail("double: start_encoding twice");
    }
    encoding = function;
    return 0;
}

EXPORT Error aoti_torch_mps_set_arg_tensor(Handle function, unsigned index, Handle tensor)
{
    void* data = nullptr;
    int64_t offset = -1;
    if (tensor != nullptr) {
        aoti_torch_get_data_ptr(tensor, &data);
        aoti_torch_get_storage_offset(tensor, &offset);
    }
    record("set_arg_tensor", "\"index\": " + std::to_string(index) +
                                 ", \"data\": " + std::to_string(reinterpret_cast<uintptr_t>(data)) +
                                 ", \"offset\": " + std::to_string(offset));
    if (injected("set_arg_tensor")) {
        return 1;
    }
    if (tensor == nullptr) {
        return fail("double: set_arg_tensor without a tensor");
    }
    if (need_encoding(function, "set_arg_tensor") != 0 || need_free(index, "set_arg_tensor") != 0) {
        return 1;
    }
    tensors[index] = data;
    return 0;
}

EXPORT Error aoti_torch_mps_set_arg_int(Handle function, unsigned index, int64_t value)
{
    return bind_bytes(function, index, &value, sizeof(value), "set_arg_int");
}

EXPORT Error aoti_torch_mps_dispatch_array_with_group_size(Handle function, const uint64_t* length,
                                                           size_t length_size, const uint64_t* group,
                                                           size_t group_size)
{
    const char* const call = "dispatch_array_with_group_size";
    record(call, "\"grid\": " + list_of(length, length_size) + ", \"group\": " + list_of(group, group_size));
    if (injected(call)) {
        return 1;
    }
    if (need_encoding(function, call) != 0) {
        return 1;
    }
    if (length_size != 3 || group_size != 3) {
        return fail("double: dispatch needs three axes");
    }
    if (length[0] * length[1] * length[2] == 0) {
        return fail("double: dispatch of no threads");
    }
    const uint64_t threads = group[0] * group[1] * group[2];
    const uint64_t most = static_cast<Function*>(function)->most_threads;
    if (threads == 0 || threads > most) {
        return fail("double: threadgroup of " + std::to_string(threads) + " threads, the pipeline allows " +
                    std::to_string(most));
    }
    const Error error = run(*static_cast<Function*>(function), length, group);
    encoding = nullptr;  // one dispatch for each encoding: the next one binds everything again
    tensors.clear();
    constants.clear();
    return error;
}

EXPORT Error aoti_torch_mps_run_command_block(Handle function, void (*work)(Handle, void*), void* data)
{
    record("run_command_block", "");
    if (injected("run_command_block")) {
        return 1;
    }
    if (need_no_block("run_command_block") != 0 || need_no_interpreter("run_command_block") != 0) {
        return 1;
    }
    block = function;
    refused = false;
    encoding = nullptr;
    tensors.clear();
    constants.clear();
    std::unique_ptr<Hostage> hostage(patience > 0.0 ? new Hostage : nullptr);
    work(function, data);
    const bool late = hostage != nullptr && hostage->release();
    const bool open = encoding != nullptr;
    block = nullptr;
    encoding = nullptr;
    if (late) {
        return fail("double: the command block waited for the interpreter's lock");
    }
    return open && !refused ? fail("double: the command block ended before a dispatch") : 0;
}
