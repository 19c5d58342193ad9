"""The faults: one replacement in one file each, and the test that must fail for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """One replacement in one file, of the text's only occurrence or of that with this index, and the test that must
    fail for it; ``needs`` is a program without which that test does not run."""

    name: str
    file: str
    old: str
    new: str
    test: str
    builds: bool = True  # whether the extension must be built again
    occurrence: int | None = None
    needs: str | None = None

    def made(self, text: str) -> str:
        """The file's text with the fault."""
        parts = text.split(self.old)
        at = self.occurrence or 0
        if len(parts) < at + 2 or (self.occurrence is None and len(parts) != 2):
            raise SystemExit(f"[mutations] {self.name}: {self.file} must hold {self.old!r}, once unless counted")
        return self.old.join(parts[: at + 1]) + self.new + self.old.join(parts[at + 1 :])


MUTATIONS = (
    Mutation(
        "launcher-shifts-buffer-indices",
        "csrc/metal/metal.cpp",
        "abi.set_tensor(kernel, i, e.tensors[i])",
        "abi.set_tensor(kernel, i + 1, e.tensors[i])",
        "tests/kernels/test_metal_encoding.py::test_arguments_of_the_calls",
    ),
    Mutation(
        "op-swaps-two-buffers",
        "nerf_metal/ops/march.py",
        "[*inputs, t_edges, *bounds]",
        "[inputs[1], inputs[0], *inputs[2:], t_edges, *bounds]",
        "tests/ops/test_march_kernel.py::test_edges_are_the_references",
        builds=False,
    ),
    Mutation(
        "host-orders-struct-members-otherwise",
        "cmake/generate.py",
        "for m, t in members)",
        "for m, t in reversed(members))",
        "tests/kernels/test_contract.py::test_structs_are_packed_as_the_shader_lays_them_out",
    ),
    Mutation(
        "host-forgets-the-storage-offset",
        "csrc/launcher/tensors.cpp",
        "number(data_ptr.call(tensor))",
        "number(data_ptr.call(untyped_storage.call(tensor)))",
        "tests/kernels/test_metal_encoding.py::test_kernel_runs_on_what_was_bound",
    ),
    Mutation(
        "op-forgets-an-offset",
        "nerf_metal/ops/composite.py",
        "return t_starts, t_ends, row",
        "return t_starts, t_ends.as_strided(t_ends.shape, t_ends.stride(), 0), row",
        "tests/kernels/test_metal_ops.py::test_views_of_one_tensor_of_edges_are_not_copied",
        builds=False,
    ),
    Mutation(
        "launcher-loses-a-handle",
        "csrc/metal/metal.cpp",
        "        abi.delete_tensor(handle_);",
        "        (void)handle_;",
        "tests/kernels/test_metal_encoding.py::test_order_of_the_calls",
    ),
    Mutation(
        "launcher-ignores-an-error",
        "csrc/metal/metal.cpp",
        "        e.code = code;",
        "        e.code = 0;",
        "tests/kernels/test_metal_failures.py::test_failure_of_every_call_of_every_kernel",
    ),
    Mutation(
        "launcher-keeps-the-interpreters-lock",
        "csrc/launcher/bindings.cpp",
        "    const py::gil_scoped_release unlocked;\n    metal::run",
        "    metal::run",
        "tests/kernels/test_metal_encoding.py::test_order_of_the_calls",
    ),
    # ---- what Metal forbids ----
    Mutation(
        "shader-has-a-pointer-without-space",
        "metal/scan.h",
        "inline float total(thread const float* x)",
        "inline float total(const float* x)",
        "proof/conformance/test_conformance.py::test_a_shader_that_metal_takes_passes",
        builds=False,
    ),
    Mutation(
        "shader-has-a-double-literal",
        "metal/common.h",
        "FLOAT_TINY = 1.175494351e-38f;",
        "FLOAT_TINY = 1.175494351e-38;",
        "proof/conformance/test_conformance.py::test_a_shader_that_metal_takes_passes",
        builds=False,
    ),
    # ---- one text for all ----
    Mutation(
        "shader-asks-who-reads-it",
        "metal/common.h",
        "FLOAT_TINY = 1.175494351e-38f;",
        "FLOAT_TINY = 1.175494351e-38f;\n#ifdef __METAL_VERSION__\n#endif",
        "proof/test_sides.py::test_nothing_in_metal_asks_who_reads_it",
        builds=False,
    ),
    # ---- what runs on Metal alone ----
    Mutation(
        "metals-own-rows-forget-the-weight",
        "metal/rows.h",
        "sum[f] += tile.weight[i] * float(table[tile.index[i] * F + f]);",
        "sum[f] += float(table[tile.index[i] * F + f]);",
        "proof/cuda/test_cuda.py::test_every_named_case_emulated",
        builds=False,
    ),
    Mutation(
        "metals-own-loop-forgets-the-bias",
        "metal/tile.h",
        "float sum = ADD ? c[r * ldc + j] : bias[j];",
        "float sum = ADD ? c[r * ldc + j] : 0.0f * bias[j];",
        "proof/cuda/test_cuda.py::test_every_named_case_emulated",
        builds=False,
    ),
    Mutation(
        "shader-lets-a-lane-leave",
        "metal/mlp_simd.h",
        "if (first >= p.n_rows) {",
        "if (first >= p.n_rows || lane == 31u) {",
        "tests/kernels/test_lane_orders.py::test_no_order_changes_a_bit",
    ),
    # ---- what a kernel may touch ----
    Mutation(
        "shader-says-a-wrong-shape",
        "metal/adam.metal",
        "// [n_elements] first moment m",
        "// [1] first moment m",
        "tests/kernels/test_launch_safety.py::test_no_element_past_an_end_is_touched",
    ),
    Mutation(
        "launcher-takes-too-small-a-tensor",
        "csrc/launcher/launch.cpp",
        "if (!(needed[i] <= static_cast<double>(argument.elements))) {",
        "if (!(needed[i] / 2 <= static_cast<double>(argument.elements))) {",
        "tests/kernels/test_launch_safety.py::test_exact_buffers_are_enough_and_one_less_is_refused",
    ),
    Mutation(
        "shader-leaves-an-array-of-its-own",
        "metal/adam.metal",
        "uint touched[ADAM_BLOCKS];",
        "uint touched[ADAM_BLOCKS - 1u];",
        "proof/sanitizers/test_sanitizers.py::test_the_sanitizers_find_nothing[baseline]",
        builds=False,
    ),
    # ---- the wheel ----
    Mutation(
        "launcher-links-against-torch",
        "csrc/metal/metal.cpp",
        "#include <dlfcn.h>",
        '#include <dlfcn.h>\n#if defined(__APPLE__)\nextern "C" int aoti_torch_direct();\n'
        "extern const int direct;\nconst int direct = aoti_torch_direct();\n#endif",
        "proof/macos_wheel/test_wheel.py::test_one_command_builds_and_checks_the_wheel",
        builds=False,
    ),
    Mutation(
        "launcher-needs-what-the-oldest-torch-lacks",
        "csrc/metal/metal.cpp",
        '"torch_tensor_from_pyobject", found.from_python, true);',
        '"torch_tensor_from_pyobject", found.from_python);',
        "proof/macos_wheel/test_torch_symbols.py::test_what_a_version_lacks",
        builds=False,
    ),
    Mutation(
        "arm64-loses-a-register",
        "csrc/strict/fiber.cpp",
        "ldp d8, d9, [sp, #96]",
        "ldp d9, d8, [sp, #96]",
        "proof/macos_wheel/test_arm64.py::test_the_strict_executor_runs",
        builds=False,
        needs="qemu-aarch64",
    ),
    # The first of all barriers; test_lane_orders.py drops each in turn by itself.
    Mutation(
        "shader-drops-a-barrier",
        "metal/mlp_simd.h",
        "simdgroup_barrier(mem_flags::mem_threadgroup);",
        "",
        "tests/ops/test_mlp_kernel.py::test_lane_order_changes_no_bit",
        occurrence=0,
    ),
)
