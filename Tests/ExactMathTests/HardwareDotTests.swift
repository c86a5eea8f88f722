#if canImport(CHardwareDot)
    import CHardwareDot
    import ExactMath
    import Testing

    /// The soft multiply-add against the silicon that it describes; skipped where the processor lacks the instruction.
    @Suite("SoftFloat32 on x86-64 silicon: D1")
    struct HardwareDotTests {
        @Test(
            "D1: fusedMultiplyAddFlushing agrees with VFMADD under DAZ and FTZ",
            .enabled(if: touchstone_test_has_fma(), "this processor has no FMA3"), arguments: TripleFamily.allCases)
        func scalarUnderFlush(family: TripleFamily) {
            let seed: UInt64 = 0x5EED_0401
            let (batches, batchSize) = (1000, 4096)
            var generator = SplitMix64(seed: seed)
            var x = [UInt32](repeating: 0, count: batchSize)
            var (y, z, hardware) = (x, x, x)
            var differences = 0
            for _ in 0..<batches {
                for index in 0..<batchSize {
                    let triple = family.draw(&generator)
                    (x[index], y[index], z[index]) = (triple.0.bitPattern, triple.1.bitPattern, triple.2.bitPattern)
                }
                touchstone_test_fma_flushing(x, y, z, &hardware, batchSize)
                for index in 0..<batchSize {
                    let soft = SoftFloat32.fusedMultiplyAddFlushing(
                        Float(bitPattern: x[index]), Float(bitPattern: y[index]), Float(bitPattern: z[index]))
                    if soft.bitPattern == canonical(hardware[index]) { continue }
                    differences += 1
                    if differences <= 5 {
                        Issue.record(
                            """
                            F(\(hexadecimal(x[index])), \(hexadecimal(y[index])), \(hexadecimal(z[index]))): \
                            VFMADD \(hexadecimal(hardware[index])), soft \(hexadecimal(soft.bitPattern))
                            """)
                    }
                }
            }
            #expect(differences == 0, "\(differences) of \(batches * batchSize) differ, seed \(seed)")
        }

        /// How factors and accumulators of a batch are drawn.
        enum PairFamily: String, CaseIterable, CustomTestStringConvertible {
            case anyBits, ordinary, leastNormalEdge, cancellation
            var testDescription: String { rawValue }
        }

        @Test(
            "D1: two steps F, the odd element first, agree with VDPBF16PS",
            .enabled(if: touchstone_test_has_vdpbf16ps(), "this processor has no AVX512-BF16"),
            arguments: PairFamily.allCases)
        func pairs(family: PairFamily) {
            let seed: UInt64 = 0x5EED_0402
            let batches = 150_000
            var generator = SplitMix64(seed: seed)
            var a = [UInt32](repeating: 0, count: 16)
            var (b, accumulator) = (a, a)
            var differences = 0
            for _ in 0..<batches {
                for lane in 0..<16 { (a[lane], b[lane], accumulator[lane]) = draw(family, &generator) }
                var hardware = accumulator
                touchstone_test_vdpbf16ps(a, b, &hardware)
                for lane in 0..<16 {
                    var soft = Float(bitPattern: accumulator[lane])
                    for isOdd in [true, false] {
                        soft = SoftFloat32.fusedMultiplyAddFlushing(
                            element(a[lane], isOdd), element(b[lane], isOdd), soft)
                    }
                    if soft.bitPattern == canonical(hardware[lane]) { continue }
                    differences += 1
                    if differences <= 5 {
                        Issue.record(
                            """
                            pairs \(hexadecimal(a[lane])) and \(hexadecimal(b[lane])) onto \(hexadecimal(accumulator[lane])): \
                            VDPBF16PS \(hexadecimal(hardware[lane])), soft \(hexadecimal(soft.bitPattern))
                            """)
                    }
                }
            }
            #expect(differences == 0, "\(differences) of \(16 * batches) differ, seed \(seed)")
        }

        private func element(_ pair: UInt32, _ isOdd: Bool) -> Float {
            SoftFloat32.convert(bfloat16Bits: UInt16(truncatingIfNeeded: isOdd ? pair >> 16 : pair))
        }

        private func canonical(_ bits: UInt32) -> UInt32 {
            bits & 0x7FFF_FFFF > 0x7F80_0000 ? 0x7FC0_0000 : bits
        }

        /// Two pairs of bfloat16 and an accumulator, as bits.
        private func draw(_ family: PairFamily, _ generator: inout SplitMix64) -> (UInt32, UInt32, UInt32) {
            let random = generator.next()
            let (first, second) = (UInt32(truncatingIfNeeded: random), UInt32(random >> 32))
            let third = UInt32(truncatingIfNeeded: generator.next())
            let fields = 0x807F_807F as UInt32  // signs and fractions of a pair
            func exponents(_ odd: UInt32, _ even: UInt32) -> UInt32 { odd << 23 | even << 7 }
            switch family {
            case .anyBits: return (first, second, third)
            case .ordinary:
                return (
                    first & fields | exponents(125 + third & 3, 126),
                    second & fields | exponents(126, 124 + third >> 30),
                    third & 0x807F_FFFF | (120 + third >> 20 & 15) << 23
                )
            case .leastNormalEdge:  // products from 2^-156 to 2^-126 onto accumulators within units of 2^-126
                let depth = UInt32(generator.next() % 31)
                let shallow = UInt32(generator.next() % 31)
                return (
                    first & fields | exponents(64, 60), second & fields | exponents(64 - depth, 67 - shallow),
                    (third & 0x8000_0000) | (0x0080_0000 - 2 + third & 7)
                )
            case .cancellation:  // the accumulator close to minus the odd product
                let (a, b) = (first & fields | exponents(127, 100), second & fields | exponents(120, 120))
                let product = element(a, true) * element(b, true)
                return (a, b, (product.bitPattern ^ 0x8000_0000) &+ (third & 3) &- 1)
            }
        }
    }
#endif
