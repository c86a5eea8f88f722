import Kernels
import KernelsEmulated
import Testing

import Engine

@Suite("Start-up self-test of kernels")
struct SelfTestTests {
    @Test("this machine's sets and the emulated ones answer right")
    func right() {
        #expect(InstructionSets.refused.isEmpty)
        for set in InstructionSets.available + [Emulated.singles, Emulated.pairs] {
            #expect(SelfTest.complaint(about: set) == nil)
        }
    }

    private func wrong(_ name: String, _ change: @escaping @Sendable (inout KernelSet.Block) -> Void) -> KernelSet {
        let right = Emulated.pairs
        return KernelSet(
            name: name, tileRows: right.tileRows, tileColumns: right.tileColumns, pack: right.pack,
            multiply: {
                var block = $0
                change(&block)
                right.multiply(block)
            }, rows: right.rows, math: right.math, squinch: right.squinch, peak: right.peak)
    }

    @Test("a set with another rule is left out, with the question that it failed")
    func refused() {
        let ascending = wrong("ascending") { $0.isPairedFTZ = false }
        let paired = wrong("paired") { $0.isPairedFTZ = true }
        let forgetful = wrong("forgetful") { $0.accumulates = false }
        let judged = InstructionSets.judge([ascending, Emulated.pairs, paired, forgetful, Emulated.singles])
        #expect(judged.available.map(\.name) == ["emulated-avx512-bf16", "emulated-avx512"])
        #expect(judged.refused.map(\.name) == ["ascending", "paired", "forgetful"])
        #expect(judged.refused[0].complaint.hasPrefix("the odd product first: paired-ftz gives 0x3f800000"))
        #expect(judged.refused[1].complaint.hasPrefix("the odd product first: chain-ieee gives 0x0,"))
    }
}
