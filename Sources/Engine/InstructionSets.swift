import CProcessor
import Kernels
import KernelsPortable

#if arch(x86_64)
    import KernelsAVX2
    import KernelsAVX512
    import KernelsAVX512BF16
#endif

/// The kernels that this program has and this processor can run: one list that dispatch, tests, benchmarks and `doctor` go by.
public enum InstructionSets {
    /// A set that gave a wrong answer to a known question.
    public struct Refusal: Sendable, Hashable {
        public let name: String
        public let complaint: String
    }

    /// The best first, each of which answered the known questions right. `portable` is always there, and last.
    public static let available: [KernelSet] = judged.available

    /// What the processor should be able to run, but does not run right (`SelfTest`).
    public static let refused: [Refusal] = judged.refused

    /// The set of a name; the best one without a name. nil if there is none of the name.
    public static func named(_ name: String?) -> KernelSet? {
        guard let name else { return available[0] }
        return available.first { $0.name == name }
    }

    private static let judged = judge(candidates)

    private static var candidates: [KernelSet] {
        var sets: [KernelSet] = []
        #if arch(x86_64)
            if touchstone_has_avx512() { sets.append(AVX512.kernels) }
            // Intel's processors take two cycles and more for a VDPBF16PS and half of one for a fused multiply-add on as many lanes: there
            // the fp32 kernels are 1.5 times as fast (Xeon, family 6 model 207), and the bits are the same.
            if touchstone_has_avx512_bf16() {
                sets.insert(AVX512BF16.kernels, at: touchstone_is_intel() ? sets.endIndex : sets.startIndex)
            }
            if touchstone_has_avx2_fma() { sets.append(AVX2.kernels) }
        #endif
        return sets + [Portable.kernels]
    }

    /// Leaves out sets that fail their self-test; the last one stays whatever it answers.
    package static func judge(_ candidates: [KernelSet]) -> (available: [KernelSet], refused: [Refusal]) {
        var available: [KernelSet] = []
        var refused: [Refusal] = []
        for (index, set) in candidates.enumerated() {
            let complaint = SelfTest.complaint(about: set)
            if let complaint { refused.append(Refusal(name: set.name, complaint: complaint)) }
            if complaint == nil || index == candidates.count - 1 { available.append(set) }
        }
        return (available, refused)
    }
}
