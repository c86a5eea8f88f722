import BFloat16
import ExactMath

/// The square of the positive part (T2): y = fl(p * p), p = u where u > 0, NaN where u is NaN, else +0. Element by element.
public enum ReLUSquared {
    /// y, fp32, of u, bf16. Exact but for overflow and underflow: p has 8 bits.
    public static func forward(_ u: [BFloat16]) -> [Float] {
        u.map { u in
            let p = positivePart(u)
            return SoftFloat32.multiply(p, p)  // T2
        }
    }

    /// du = fl(dy * fl(2p)), +0 where p is 0; dy and du fp32.
    public static func backward(u: [BFloat16], dy: [Float]) -> [Float] {
        precondition(u.count == dy.count)
        var du: [Float] = []
        du.reserveCapacity(u.count)
        for index in u.indices {
            let p = positivePart(u[index])
            du.append(
                SoftFloat32.isZero(p) ? 0 : SoftFloat32.multiply(dy[index], SoftFloat32.multiply(2, p)))  // T2
        }
        return du
    }

    private static func positivePart(_ u: BFloat16) -> Float {
        let value = widened(u)
        return SoftFloat32.isNaN(value) || SoftFloat32.isLess(0, value) ? value : 0
    }
}

/// The residual stream (T2).
public enum Residual {
    /// x' = bf16(fl(x + a)): x the bf16 stream, a fp32 accumulators.
    public static func add(_ x: [BFloat16], _ a: [Float]) -> [BFloat16] {
        precondition(x.count == a.count)
        var sum: [BFloat16] = []
        sum.reserveCapacity(x.count)
        for index in x.indices { sum.append(bf16(SoftFloat32.add(widened(x[index]), a[index]))) }  // T2
        return sum
    }
}
