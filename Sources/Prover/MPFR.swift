import ExactMath
import Platform

/// GNU MPFR, loaded when a proof asks for it: the second derivation of the elementary functions (E2) and of Squinch's tables (S2). Nobody needs it
/// to use or test the package.
public struct MPFR: Sendable {
    /// Why MPFR cannot be used.
    public enum LoadError: Error, Hashable, Sendable, CustomStringConvertible {
        case notFound
        case missingFunction(String, version: String)

        public var description: String {
            switch self {
            case .notFound:
                "the library MPFR (libmpfr) was not found; install libmpfr6 with apt-get, or mpfr with Homebrew"
            case .missingFunction(let name, let version):
                "MPFR \(version) has no \(name); version 4.2 or later is needed"
            }
        }
    }

    typealias Unary = @convention(c) (UnsafeMutableRawPointer, UnsafeRawPointer, Int32) -> Int32
    private typealias Initialize = @convention(c) (UnsafeMutableRawPointer, Int) -> Void
    private typealias Clear = @convention(c) (UnsafeMutableRawPointer) -> Void
    private typealias SetFloat = @convention(c) (UnsafeMutableRawPointer, Float, Int32) -> Int32
    private typealias SetInteger = @convention(c) (UnsafeMutableRawPointer, Int, Int32) -> Int32
    private typealias GetFloat = @convention(c) (UnsafeRawPointer, Int32) -> Float
    private typealias GetDouble = @convention(c) (UnsafeRawPointer, Int32) -> Double
    private typealias SetRange = @convention(c) (Int) -> Int32
    private typealias Round = @convention(c) (UnsafeMutableRawPointer, Int32, Int32) -> Int32
    private typealias IntegerDivide = @convention(c) (UnsafeMutableRawPointer, UInt, UnsafeRawPointer, Int32) -> Int32
    private typealias DivideByInteger = @convention(c) (UnsafeMutableRawPointer, UnsafeRawPointer, UInt, Int32) -> Int32
    private typealias Version = @convention(c) () -> UnsafePointer<CChar>

    private let initialize: Initialize
    private let clear: Clear
    private let setFloat: SetFloat
    private let setInteger: SetInteger
    private let getFloat: GetFloat
    private let getDouble: GetDouble
    private let setLeastExponent: SetRange
    private let setGreatestExponent: SetRange
    private let subnormalize: Round
    private let integerDivide: IntegerDivide
    private let divideByInteger: DivideByInteger
    private let unary: [MathFunction: Unary]
    /// For example "4.2.0".
    public let version: String

    /// Loads the library.
    public init() throws(LoadError) {
        let names = [
            "libmpfr.so.6", "libmpfr.so", "libmpfr.6.dylib", "/opt/homebrew/lib/libmpfr.dylib",
            "/usr/local/lib/libmpfr.dylib",
        ]
        guard let library = DynamicLibrary(anyOf: names) else { throw .notFound }
        let versionText = library.function("mpfr_get_version", as: Version.self).map { String(cString: $0()) }
        let version = versionText ?? "of unknown version"
        func function<Function>(_ name: String, as type: Function.Type) throws(LoadError) -> Function {
            guard let function = library.function(name, as: type) else {
                throw .missingFunction(name, version: version)
            }
            return function
        }
        self.version = version
        initialize = try function("mpfr_init2", as: Initialize.self)
        clear = try function("mpfr_clear", as: Clear.self)
        setFloat = try function("mpfr_set_flt", as: SetFloat.self)
        setInteger = try function("mpfr_set_si", as: SetInteger.self)
        getFloat = try function("mpfr_get_flt", as: GetFloat.self)
        getDouble = try function("mpfr_get_d", as: GetDouble.self)
        setLeastExponent = try function("mpfr_set_emin", as: SetRange.self)
        setGreatestExponent = try function("mpfr_set_emax", as: SetRange.self)
        subnormalize = try function("mpfr_subnormalize", as: Round.self)
        integerDivide = try function("mpfr_ui_div", as: IntegerDivide.self)
        divideByInteger = try function("mpfr_div_ui", as: DivideByInteger.self)
        var unary: [MathFunction: Unary] = [:]
        for (which, name) in [
            (MathFunction.exp, "mpfr_exp"), (.expm1, "mpfr_expm1"), (.log, "mpfr_log"), (.log1p, "mpfr_log1p"),
            (.sqrt, "mpfr_sqrt"), (.rsqrt, "mpfr_rec_sqrt"), (.sinPi, "mpfr_sinpi"), (.cosPi, "mpfr_cospi"),
        ] { unary[which] = try function(name, as: Unary.self) }
        self.unary = unary
    }

    /// How MPFR rounds: its `mpfr_rnd_t`.
    public enum Rounding: Int32, Sendable {
        case nearestEven = 0
        case up = 2
    }

    /// The numbers of one thread: an operand and a result. MPFR's exponent range is a thread's own, and is set with each use.
    public final class Workspace {
        private let library: MPFR
        // An mpfr_t: precision, sign, exponent, pointer to limbs; 32 bytes on every 64-bit system.
        private let operand = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
        private let result = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
        private let wide = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
        private let isDouble: Bool

        /// For results in binary32, or in binary64.
        public init(_ library: MPFR, double: Bool = false) {
            self.library = library
            isDouble = double
            library.initialize(operand, 53)
            library.initialize(result, double ? 53 : 24)
            library.initialize(wide, 200)
        }

        deinit {
            for number in [operand, result, wide] {
                library.clear(number)
                number.deallocate()
            }
        }

        /// Values are 0.1... * 2^exponent in MPFR: the least subnormal 2^-149 has exponent -148.
        private func setRange() {
            _ = library.setLeastExponent(isDouble ? -1073 : -148)
            _ = library.setGreatestExponent(isDouble ? 1024 : 128)
        }

        /// MPFR's reciprocal square root of -0 is +infinity; IEEE 754-2019's, and E1's, is -infinity.
        private func isOtherInMPFR(_ function: MathFunction, _ x: Float) -> Bool {
            function == .rsqrt && x.bitPattern == 0x8000_0000
        }

        private func apply(_ function: MathFunction, _ x: Float) {
            setRange()
            _ = library.setFloat(operand, x, 0)
            let ternary: Int32 =
                if let unary = library.unary[function] {
                    unary(result, operand, 0)
                } else {
                    library.integerDivide(result, 1, operand, 0)
                }
            _ = library.subnormalize(result, ternary, 0)
        }

        /// RNE32 of the function, by MPFR. NaN is canonical.
        public func binary32(_ function: MathFunction, _ x: Float) -> Float {
            precondition(!isDouble, "a workspace for binary64")
            if isOtherInMPFR(function, x) { return -.infinity }
            apply(function, x)
            let value = library.getFloat(result, 0)
            return value.isNaN ? Float(bitPattern: 0x7FC0_0000) : value
        }

        /// RNE64 of the function, by MPFR. NaN is canonical.
        public func binary64(_ function: MathFunction, _ x: Float) -> Double {
            precondition(isDouble, "a workspace for binary32")
            if isOtherInMPFR(function, x) { return -.infinity }
            apply(function, x)
            let value = library.getDouble(result, 0)
            return value.isNaN ? Double(bitPattern: 0x7FF8_0000_0000_0000) : value
        }

        /// exp(n / 6) in binary32: n / 6 to 200 bits, far more than any exp(n / 6) needs to round rightly, then exp rounded once.
        public func exp(sixths n: Int, _ rounding: Rounding) -> Float {
            precondition(!isDouble, "a workspace for binary64")
            setRange()
            _ = library.setInteger(wide, n, 0)
            _ = library.divideByInteger(wide, wide, 6, 0)
            // The precondition of `unary`: every function of the table was found.
            guard let exp = library.unary[.exp] else { return Float(bitPattern: 0x7FC0_0000) }
            let ternary = exp(result, wide, rounding.rawValue)
            _ = library.subnormalize(result, ternary, rounding.rawValue)
            return library.getFloat(result, 0)
        }
    }
}
