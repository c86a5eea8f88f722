import CProcessor
import Kernels
import KernelsPortable

#if arch(x86_64)
    import KernelsAVX2
#endif

/// The kernels that this program has and this processor can run: one list that dispatch, tests, benchmarks and `doctor` go by.
public enum InstructionSets {
    /// The best first. `portable` is always there, and last.
    public static let available: [KernelSet] = {
        var sets: [KernelSet] = []
        #if arch(x86_64)
            if touchstone_has_avx2_fma() { sets.append(AVX2.kernels) }
        #endif
        return sets + [Portable.kernels]
    }()

    /// The set of a name; the best one without a name. nil if there is none of the name.
    public static func named(_ name: String?) -> KernelSet? {
        guard let name else { return available[0] }
        return available.first { $0.name == name }
    }
}
