import Kernels

/// Known answers that a set of kernels must give at start-up before it is used: a hardware instruction is believed after it has shown the order,
/// the roundings and the flushing of D1 on numbers where each other rule gives another answer.
package enum SelfTest {
    /// C + a0 b0 + a1 b1: factors as bf16 bits, C and the answers as fp32 bits.
    private struct Question {
        let name: String
        let a: (even: UInt16, odd: UInt16)
        let b: (even: UInt16, odd: UInt16)
        let initial: UInt32
        let paired: UInt32
        let chain: UInt32
    }

    private static let notANumber: UInt32 = 0x7FC0_0000

    private static let questions: [Question] = [
        // 2^24 + 1 is a tie to 2^24; the even -2^24 then leaves 0. The even one first leaves 1.
        Question(
            name: "the odd product first", a: (0xC580, 0x3F80), b: (0x4580, 0x3F80), initial: 0x4B80_0000,
            paired: 0, chain: 0x3F80_0000),
        // 2^24 + 1 + 1, rounded twice, stays 2^24.
        Question(
            name: "a rounding after each product", a: (0x3F80, 0x3F80), b: (0x3F80, 0x3F80), initial: 0x4B80_0000,
            paired: 0x4B80_0000, chain: 0x4B80_0000),
        // (1 + 2^-7)^2 - (1 + 2^-6) = 2^-14: a product that is rounded before the sum still is exact in fp32; 2^-14 + 2^-38 is not.
        Question(
            name: "a product that is not rounded", a: (0x3F81, 0x0000), b: (0x3F81, 0x0000), initial: 0xBF82_0000,
            paired: 0x3880_0000, chain: 0x3880_0000),
        // A subnormal factor, 2^-133, times 2^127.
        Question(
            name: "subnormal factors are zeros", a: (0x0001, 0), b: (0x7F00, 0), initial: 0, paired: 0,
            chain: 0x3C80_0000),
        // 2^-100 2^-30 = 2^-130.
        Question(
            name: "subnormal results are zeros", a: (0, 0x0D80), b: (0, 0x3080), initial: 0, paired: 0,
            chain: 0x0008_0000),
        Question(
            name: "a subnormal sum is a zero", a: (0, 0), b: (0, 0), initial: 0x0040_0000, paired: 0,
            chain: 0x0040_0000),
        // 2^-126 - 2^-152 rounds to 2^-126, which is no subnormal.
        Question(
            name: "small is judged after rounding", a: (0x1980, 0), b: (0x9980, 0), initial: 0x0080_0000,
            paired: 0x0080_0000, chain: 0x0080_0000),
        // 2^-126 2^-126 is far below everything; 1 + it is 1.
        Question(
            name: "sticky bits round to nearest", a: (0x0080, 0), b: (0x0080, 0), initial: 0x3F80_0000,
            paired: 0x3F80_0000, chain: 0x3F80_0000),
        Question(
            name: "infinity times zero", a: (0x7F80, 0x3F80), b: (0, 0x3F80), initial: 0, paired: notANumber,
            chain: notANumber),
        Question(
            name: "infinity", a: (0x3F80, 0xFF80), b: (0x3F80, 0x3F80), initial: 0, paired: 0xFF80_0000,
            chain: 0xFF80_0000),
    ]

    /// What a set answers wrong first; nil if nothing.
    package static func complaint(about kernels: KernelSet) -> String? {
        for question in questions {
            for isPairedFTZ in [true, false] {
                let got = answer(question, kernels, isPairedFTZ)
                let expected = isPairedFTZ ? question.paired : question.chain
                if got != expected {
                    return
                        "\(question.name): \(isPairedFTZ ? "paired-ftz" : "chain-ieee") gives 0x\(String(got, radix: 16)), expected 0x\(String(expected, radix: 16))"
                }
            }
        }
        return nil
    }

    /// The bits of every element of a tile's first row, where they agree; a NaN as one.
    private static func answer(_ question: Question, _ kernels: KernelSet, _ isPairedFTZ: Bool) -> UInt32 {
        let (rows, columns) = (kernels.tileRows, kernels.tileColumns)
        let packedRows = UnsafeMutableRawPointer.allocate(byteCount: kernels.pack.rowBytes(rows, 2), alignment: 64)
        let packedColumns = UnsafeMutableRawPointer.allocate(
            byteCount: kernels.pack.columnBytes(columns, 2), alignment: 64)
        defer {
            packedRows.deallocate()
            packedColumns.deallocate()
        }
        var sums = [Float](repeating: Float(bitPattern: question.initial), count: rows * columns)
        let a = (0..<rows).flatMap { _ in [question.a.even, question.a.odd] }
        let b = (0..<columns).flatMap { _ in [question.b.even, question.b.odd] }
        a.withUnsafeBufferPointer {
            kernels.pack.packRows(
                KernelSet.Operand($0.baseAddress!, stride: 2, depthStride: 1), rows, 2, packedRows)
        }
        b.withUnsafeBufferPointer {
            kernels.pack.packColumns(
                KernelSet.Operand($0.baseAddress!, stride: 2, depthStride: 1), columns, 2, 2, 0, packedColumns)
        }
        sums.withUnsafeMutableBufferPointer {
            kernels.multiply(
                KernelSet.Block(
                    a: packedRows, isDepthContiguous: true, packedRows: rows, packedDepth: 2, b: packedColumns,
                    panelDepth: 2, c: $0.baseAddress!, cStride: columns, rows: rows, columns: columns, depth: 2,
                    accumulates: true, isPairedFTZ: isPairedFTZ))
        }
        // Sums are stored with +0 added (D3).
        let bits = sums.map { $0 != $0 ? notANumber : $0 == 0 ? 0 : $0.bitPattern }
        // An element that differs from the first is the answer that is looked for.
        return bits.first { $0 != (isPairedFTZ ? question.paired : question.chain) } ?? bits[0]
    }
}
