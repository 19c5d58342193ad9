"""Clang's messages as rules: by their warning group or their words, the first that fits."""

from __future__ import annotations

import re

from proof.conformance.clang import Diagnostic, Finding

# What Metal has and our subset, or Metal 3.1, has not.
_LATER = (
    r"os_log\w*|atomic_thread_fence|thread_scope\w*|memory_order_\w+|coherent|user_annotation|tensor\w*|mpp|"
    r"cooperative_tensor|(?:simd|quad)group_scope|atomic_signal_fence"
)
# By the group of a warning.
_OPTIONS = (
    (r"-Wpre-c\+\+17-compat|-Wc\+\+(17|20|23|26)-.*|-Wc(99|11)-.*|-Wgnu.*", "language-version"),
    ("-Wvla.*", "vla"),
    ("-W(sometimes-|conditional-)?uninitialized.*", "uninitialized"),
    ("-W(unknown|ignored)-attributes", "attribute"),
    ("-Wunknown-pragmas", "metal-version"),
    ("-Wregister", "register"),
    ("-Wglobal-constructors", "constant-initializer"),
    ("-Warray-bounds.*", "array-bound"),
    ("-W(return-stack-address|dangling).*", "dangling"),
)
# By the words of the message, and where no function fits by those of the notes to it.
_WORDS = (
    (f"'(?:{_LATER})'", "metal-version"),
    ("double precision constant", "literal-suffix"),
    ("'(?:__private |const )?(?:long )?double'|_fp64|'double", "double"),
    ("'long long'|__int128", "long-long"),
    ("file not found|expected .FILENAME", "include"),
    (r"'(?:std|__builtin_\w+)'|namespace 'std'", "standard-library"),
    (r"'packed_\w+'", "packed-type"),
    (r"'(?:metal::)?atomic_(?:int|long|ulong|flag|double|size_t|bool)_?'|'atomic'", "atomic"),
    (r"'_Atomic|'atomic_\w+_explicit'", "atomic"),
    ("incompatible type.*atomic_", "atomic"),
    ("'register'", "register"),
    ("'(?:_Thread_local|thread_local|__thread|extern)'|thread-local", "storage-class"),
    ("noexcept", "noexcept"),
    ("virtual", "virtual"),
    ("exceptions|'try'|'throw'|'catch'", "exceptions"),
    ("'default new'|'default delete'|new-expression|'new'|'delete'|operator (?:new|delete)", "new-delete"),
    ("dynamic_cast|typeid|rtti|type_info", "rtti"),
    ("variable length array|variable-length array|variably modified|array size is not a constant", "vla"),
    ("variadic", "variadic"),
    ("bit-field", "bit-field"),
    ("pointers to functions|function pointer|pointer to function|taking address of function", "function-pointer"),
    ("user-defined literal|literal operator|invalid suffix", "user-literal"),
    ("kernel functions? cannot be used in a template|kernel.*template", "kernel-template"),
    ("kernel must have void return type|kernel.*return type", "kernel-return"),
    ("overload.*kernel|kernel.*overload|conflicting types|redefinition of", "kernel-overload"),
    ("cannot be declared in (?:the )?local|local address space can only be declared", "threadgroup-scope"),
    ("'__local' variable cannot have an initializer", "threadgroup-initializer"),
    ("program scope", "mutable-global"),
    ("static local variable must reside in constant", "static-local"),
    ("variable in constant address space must be initialized", "constant-initializer"),
    ("kernel parameter|pointer arguments to kernel functions", "kernel-parameter"),
    ("cannot assign to|read-only|not assignable|drops 'const'|discards qualifiers", "const-write"),
    (r"vector|'(?:u?int|u?short|u?char|u?long|half|float)[234]'", "vector-mix"),
    ("no matching constructor.*implicit copy constructor.*address space", "struct-copy"),
    ("ambiguous", "overload"),
    ("address space|(?:initialize|assigning|cast from|returning).*__(?:global|local|constant|generic)", "space-mix"),
    ("no matching|no viable", "overload"),
    ("attempt to use a poisoned identifier", "opencl"),
    ("use of undeclared identifier|unknown type name|no (?:member|type|template) named|no template", "undeclared"),
)

_HINTS = {
    "language-version": "Metal 3.1 is C++14; write it as C++14 has it",
    "include": "only Metal's own headers and those of metal/ can be included",
    "standard-library": "Metal has no std; use the functions of namespace metal",
    "packed-type": "our subset has no packed types: read the members one by one from a pointer to float",
    "atomic": "our subset has atomic_uint and atomic_float in device memory, in relaxed order",
    "metal-version": "Metal 3.1 has it not, or has not that form of it",
    "undeclared": "not a name of our subset; use another, or add it to csrc/host/msl.h and conformance/headers/msl.h",
    "overload": "no function of Metal's takes these types here; convert them, or call the one that is for them",
    "struct-copy": "read and write its members one by one",
    "space-mix": "a pointer or reference keeps its address space and its const",
    "mutable-global": "program scope is for constexpr constant; what changes belongs in a buffer",
    "constant-initializer": "a constant at program scope is constexpr and initialised by constants",
    "threadgroup-scope": "declare it in the kernel and hand functions a pointer",
    "threadgroup-initializer": "write it by threads, then wait at a barrier",
    "kernel-return": "return void",
    "array-bound": "no index may lead out of an array",
    "dangling": "what it points to ends with the function",
    "warning": "warnings are errors in our own code",
    "uninitialized": "give it a value first",
    "double": "Metal has no double; use float",
    "literal-suffix": "append f",
    "attribute": "an attribute of our subset is one that nerf_metal/kernels/signature.py lists",
    "opencl": "a word of OpenCL",
    "const-write": "it is read only",
    "vector-mix": "convert, component by component or by the vector's constructor",
}
_SPACES = {"__global": "device", "__private": "thread", "__local": "threadgroup", "__constant": "constant"}


def diagnostic_findings(diagnostics: list[Diagnostic]) -> list[Finding]:
    """Each message with the rule it is about; errors that no rule names are clang's own."""
    return [_finding(d) for d in diagnostics]


def _finding(d: Diagnostic) -> Finding:
    words = "; ".join([d.text, *d.notes]) if d.text.startswith(("no matching", "no viable")) else d.text
    rule = next((r for group, r in _OPTIONS if re.fullmatch(group, d.option)), "clang")
    if rule in ("clang", "attribute"):
        rule = next((r for pattern, r in _WORDS if re.search(pattern, words)), rule)
    if rule == "clang" and not d.error:
        rule = "warning"
    text = d.text
    for opencl, metal in _SPACES.items():
        text = text.replace(opencl, metal)
    text = re.sub(r"(?:metal::)?\b(atomic_\w+|global|local|generic|pipe)_\b", r"\1", text)
    hint = _HINTS.get(rule)
    return Finding(d.file, d.line, rule, f"{text}; {hint}" if hint else text)
