import BFloat16
import ExactMath
import ModelSpec
import Reference
import Testing

@Suite("C: clamping and int8")
struct ClampTests {
    @Test("C1: the limit of weights whose square sum is exact, by hand")
    func limit() throws {
        // 18 weights of 0.5: rms 0.5; n = 9 has the exact root 3: L = kappa * 0.5 * 3.
        let weights = [BFloat16](repeating: 0.5, count: 18)
        #expect(try Clamp.dynamicLimit(weights: weights, fanIn: 9, columns: 2, kappa: 4, activation: .none) == 6)
        #expect(try Clamp.dynamicLimit(weights: weights, fanIn: 9, columns: 2, kappa: 4, activation: .relu2) == 36)
        #expect(
            try Clamp.dynamicLimit(weights: weights, fanIn: 9, columns: 2, kappa: 0, activation: .none).bitPattern == 0)
        // Where kappa last, or a division for the mean, would give 0x412CD1F4 or 0x412CD1F2 (binary64 and rounding by hand).
        let rounding = [BFloat16](repeating: BFloat16(bitPattern: 0x3FE5), count: 15)
        #expect(
            try Clamp.dynamicLimit(weights: rounding, fanIn: 5, columns: 3, kappa: 2.7, activation: .none).bitPattern
                == 0x412C_D1F3)
        // Each rounding of C1 in its place, with the sum of squares exact: 7 ones.
        let ones = [BFloat16](repeating: 1, count: 7)
        let root = SoftFloat32.squareRoot(of: 7)
        let mean = CorrectlyRounded.sqrt(SoftFloat32.multiply(7, SoftFloat32.reciprocal(of: 7)))
        let expected = SoftFloat32.multiply(SoftFloat32.multiply(1.1, mean), root)
        #expect(try Clamp.dynamicLimit(weights: ones, fanIn: 7, columns: 1, kappa: 1.1, activation: .none) == expected)
    }

    @Test("C2, C3: codes are the nearest integers, ties to even, over every multiple of 1/8 of a code")
    func codes() throws {
        // L = 127: r = 1 exactly, so that the code of y is y itself rounded.
        var y: [Float] = []
        for eighths in -1200...1200 { y.append(Float(eighths) / 8) }
        let forward = try Clamp.forward(y, limit: 127, activation: .none, int8: true)
        for (index, value) in y.enumerated() {
            let expected = min(127, max(-127, value.rounded(.toNearestOrEven)))
            #expect(Float(forward.codes[index]) == expected, "\(value)")
            // L * RNE32(1/127) need not be 1.
            let step = SoftFloat32.multiply(127, SoftFloat32.reciprocal(of: 127))
            #expect(forward.dequantised[index] == (expected == 0 ? 0 : expected * step))
            #expect(forward.clamped[index] == min(127, max(-127, value)))
        }
        #expect(forward.report.above == y.count { $0 > 127 } && forward.report.below == y.count { $0 < -127 })
        #expect(forward.report.zeroCodes == forward.codes.count { $0 == 0 })
    }

    @Test("C2, C3: zeros, NaN and infinities")
    func specials() throws {
        let y: [Float] = [0, -0.0, .nan, .infinity, -.infinity, .leastNonzeroMagnitude, -.leastNonzeroMagnitude]
        let none = try Clamp.forward(y, limit: 2, activation: .none, int8: true)
        #expect(none.clamped[1].bitPattern == 0x8000_0000 && none.dequantised[1].bitPattern == 0)
        #expect(none.clamped[2].bitPattern == 0x7FC0_0000 && none.codes[2] == 0 && none.dequantised[2].isNaN)
        #expect(none.clamped[3] == 2 && none.codes[3] == 127 && none.clamped[4] == -2 && none.codes[4] == -127)
        #expect(none.codes[5] == 0 && none.dequantised[6].bitPattern == 0)
        let relu = try Clamp.forward(y, limit: 2, activation: .relu2, int8: false)
        #expect(relu.clamped[1].bitPattern == 0 && relu.clamped[4].bitPattern == 0 && relu.codes.isEmpty)
        let nothing = try Clamp.forward(y, limit: 0, activation: .none, int8: true)
        #expect(
            nothing.clamped.enumerated().allSatisfy { $0.offset == 2 ? $0.element.isNaN : $0.element.bitPattern == 0 })
        #expect(nothing.codes.allSatisfy { $0 == 0 })
    }

    @Test("C4: the gradient passes on the limits, and beyond them only inward")
    func gradient() {
        let y: [Float] = [-3, -2, 0, 2, 3, .nan]
        func dx(_ slope: Float, _ gradient: ClampGradient, _ limit: Float = 2) -> [Float] {
            Clamp.backward(
                y: y, dy: [Float](repeating: slope, count: 6), limit: limit, activation: .none, gradient: gradient)
        }
        #expect(dx(1, .straightThrough).prefix(5) == [0, 1, 1, 1, 0] && dx(1, .straightThrough)[5].isNaN)
        #expect(dx(1, .inward).prefix(5) == [0, 1, 1, 1, 1])
        #expect(dx(-1, .inward).prefix(5) == [-1, -1, -1, -1, 0])
        #expect(dx(1, .inward, 0).prefix(5).allSatisfy { $0.bitPattern == 0 })
        // relu2: the lower end is +0.
        let relu = Clamp.backward(
            y: [-0.0, 0, 1], dy: [5, 5, 5], limit: 2, activation: .relu2, gradient: .straightThrough)
        #expect(relu == [5, 5, 5])
    }

    @Test("C5: a static limit far above the values makes every code 0, and it is counted")
    func collapse() throws {
        let y = (0..<100).map { Float($0) / 100 }
        let forward = try Clamp.forward(y, limit: 1000, activation: .none, int8: true)
        #expect(forward.report.zeroCodes == 100 && forward.dequantised.allSatisfy { $0.bitPattern == 0 })
        #expect(try Clamp.forward(y, limit: 1, activation: .none, int8: true).report.zeroCodes < 3)
    }

    @Test("C1, C3: limits that are none are errors")
    func refusals() {
        for limit in [-1, .nan, .infinity] as [Float] {
            #expect(throws: Clamp.ClampError.self) {
                try Clamp.forward([1], limit: limit, activation: .none, int8: false)
            }
        }
        #expect(throws: Clamp.ClampError.scale(limit: 1e-38)) {
            try Clamp.forward([1], limit: 1e-38, activation: .none, int8: true)
        }
        #expect(throws: Clamp.ClampError.noWeights) {
            try Clamp.dynamicLimit(weights: [], fanIn: 0, columns: 3, kappa: 1, activation: .none)
        }
        #expect(throws: Clamp.ClampError.self) {
            try Clamp.dynamicLimit(weights: [.nan], fanIn: 1, columns: 1, kappa: 1, activation: .none)
        }
        #expect(throws: Clamp.ClampError.self) {
            try Clamp.dynamicLimit(weights: [1], fanIn: 1, columns: 1, kappa: -1, activation: .none)
        }
    }
}
