import BFloat16
import Cases
import ExactMath
import Goldens
import JSON

// Deviations of any operation: the right values at the wrong place, or stored in the wrong way.

extension DeviationCatalog {
    static let anyOperation: [Deviation] = [
        output("transposed", "writes the last two dimensions in the other order") { tensor in
            guard tensor.shape.count >= 2 else { return nil }
            let (rows, columns) = (tensor.shape[tensor.shape.count - 2], tensor.shape[tensor.shape.count - 1])
            guard rows > 1, columns > 1 else { return nil }
            return tensor.picking { index in
                let (matrix, place) = index.quotientAndRemainder(dividingBy: rows * columns)
                // The place (j, i) of a [columns, rows] matrix.
                let (j, i) = place.quotientAndRemainder(dividingBy: rows)
                return matrix * rows * columns + i * columns + j
            }
        },
        output("shifted", "writes every element one place further on") { tensor in
            tensor.count > 1 ? tensor.picking { $0 == 0 ? nil : $0 - 1 } : nil
        },
        output("reversed", "writes the last dimension backwards") { tensor in
            guard let width = tensor.shape.last, width > 1 else { return nil }
            return tensor.picking { $0 - $0 % width + (width - 1 - $0 % width) }
        },
        output("first-row-repeated", "writes the first row to every row") { tensor in
            guard tensor.shape.count >= 2, let width = tensor.shape.last, width > 0, tensor.count > width else {
                return nil
            }
            return tensor.picking { $0 % width }
        },
        output("last-row-unwritten", "leaves the last row unwritten (zero)") { tensor in
            guard tensor.shape.count >= 2, let width = tensor.shape.last, width > 0, tensor.count > width else {
                return nil
            }
            return tensor.picking { $0 >= tensor.count - width ? nil : $0 }
        },
        output("last-element-unwritten", "leaves the last element unwritten (zero)") { tensor in
            tensor.count > 1 ? tensor.picking { $0 == tensor.count - 1 ? nil : $0 } : nil
        },
        remainder(4), remainder(8), remainder(16), remainder(32), remainder(64), remainder(128),
        output("negated", "writes the values with the other sign") { tensor in
            FloatFields(tensor.type).map { fields in
                tensor.mapping { fields.isNaN($0) ? $0 : $0 ^ fields.signBit }
            }
        },
        output("flushed", "flushes subnormal results to zero") { tensor in
            FloatFields(tensor.type).map { fields in
                let least = UInt64(1) << UInt64(fields.significandBits)
                return tensor.mapping { $0 & (fields.signBit - 1) < least ? $0 & fields.signBit : $0 }
            }
        },
        output("zero-sign-lost", "writes +0 for -0") { tensor in
            FloatFields(tensor.type).map { fields in tensor.mapping { $0 == fields.signBit ? 0 : $0 } }
        },
        output("nan-as-zero", "writes zero for NaN") { tensor in
            FloatFields(tensor.type).map { fields in tensor.mapping { fields.isNaN($0) ? 0 : $0 } }
        },
        output("infinity-as-maximum", "writes the largest finite value for infinity") { tensor in
            FloatFields(tensor.type).map { fields in
                tensor.mapping { $0 & (fields.signBit - 1) == fields.infinity ? $0 - 1 : $0 }
            }
        },
        output("rounded-to-bf16", "rounds an fp32 result to bf16 on its way out") { tensor in
            tensor.type == .fp32
                ? tensor.mapping {
                    UInt64(SoftFloat32.roundToBFloat16(Float(bitPattern: UInt32($0)))) << 16
                } : nil
        },
        output("truncated-to-bf16", "cuts an fp32 result to bf16 on its way out") { tensor in
            tensor.type == .fp32 ? tensor.mapping { $0 & 0xFFFF_0000 } : nil
        },
        output("halved", "writes half of every value") { tensor in scaled(tensor, by: 0.5) },
        output("doubled", "writes twice every value") { tensor in scaled(tensor, by: 2) },
        output("byte-swapped", "writes the bytes of each element in the other order") { tensor in
            guard tensor.type.byteWidth > 1 else { return nil }
            return tensor.mapping { $0.byteSwapped >> UInt64(64 - 8 * tensor.type.byteWidth) }
        },
        output("zeros", "writes zeros") { tensor in tensor.mapping { _ in 0 } },
        output("nans", "writes NaNs") { tensor in
            FloatFields(tensor.type).map { fields in
                tensor.mapping { _ in fields.infinity | fields.infinity >> 1 }
            }
        },
    ]

    private static func remainder(_ width: Int) -> Deviation {
        output("remainder-of-\(width)-unwritten", "leaves what does not fill a vector of \(width) unwritten (zero)") {
            tensor in
            let whole = tensor.count - tensor.count % width
            return whole < tensor.count ? tensor.picking { $0 >= whole ? nil : $0 } : nil
        }
    }

    private static func scaled(_ tensor: Tensor, by factor: Float) -> Tensor? {
        switch tensor.type {
        case .fp32:
            tensor.mapping {
                UInt64(SoftFloat32.multiply(Float(bitPattern: UInt32($0)), factor).bitPattern)
            }
        case .bf16:
            tensor.mapping {
                UInt64(
                    SoftFloat32.roundToBFloat16(
                        SoftFloat32.multiply(SoftFloat32.convert(bfloat16Bits: UInt16($0)), factor)))
            }
        default: nil
        }
    }

    private static func output(
        _ name: String, _ summary: String, _ change: @escaping @Sendable (Tensor) -> Tensor?
    ) -> Deviation {
        Deviation(
            "output.\(name)", summary, [],
            .answer { _, outputs in
                var changed = TensorGroup()
                var isAny = false
                for named in outputs.tensors {
                    let tensor = change(named.tensor)
                    if tensor != nil { isAny = true }
                    changed.append(named.name, tensor ?? named.tensor)
                }
                return isAny ? changed : nil
            })
    }
}

extension Tensor {
    /// The elements' bits as a function of the index says.
    private func filled(_ bits: (Int) -> UInt64) -> Tensor {
        let width = type.byteWidth
        var changed = bytes
        for index in 0..<count {
            let bits = bits(index)
            for byte in 0..<width {
                changed[index * width + byte] = UInt8(truncatingIfNeeded: bits >> UInt64(8 * byte))
            }
        }
        return Tensor(like: self, changed)
    }

    /// Every element's bits through a function.
    func mapping(_ change: (UInt64) -> UInt64) -> Tensor { filled { change(bits(at: $0)) } }

    /// Every element's bits through a function of index and bits.
    func mappingIndexed(_ change: (Int, UInt64) -> UInt64) -> Tensor { filled { change($0, bits(at: $0)) } }

    /// At each index the element that stands at another one; zero where that is nil.
    func picking(_ source: (Int) -> Int?) -> Tensor { filled { source($0).map { bits(at: $0) } ?? 0 } }
}

extension Tensor {
    /// Another tensor's type and shape over other bytes, as many.
    init(like tensor: Tensor, _ bytes: [UInt8]) {
        do { self = try Tensor(type: tensor.type, shape: tensor.shape, bytes: bytes) } catch {
            preconditionFailure("\(error)")
        }
    }
}

// MARK: - Making questions

extension Deviation {
    /// The implementation reads another value of a recipe's key; nothing where the key is absent or has that value already.
    static func recipe(_ name: String, _ summary: String, _ clauses: [String], key: String, _ value: JSONValue)
        -> Deviation
    {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                guard let old = goldenCase.recipe[key], old != value else { return nil }
                var changed = goldenCase
                changed.recipe[key] = value
                return changed
            })
    }

    /// The implementation reads another value of an fp32 parameter, made of the right one.
    static func parameter(
        _ name: String, _ summary: String, _ clauses: [String], key: String,
        _ change: @escaping @Sendable (Float) -> Float
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                guard case .string(let digits)? = goldenCase.recipe[key + "_bits"], let bits = UInt32(digits, radix: 16)
                else { return nil }
                let value = change(Float(bitPattern: bits))
                guard value.bitPattern != bits else { return nil }
                var changed = goldenCase
                changed.recipe[key] = nil
                let text = String(value.bitPattern, radix: 16)
                changed.recipe[key + "_bits"] = .string(String(repeating: "0", count: 8 - text.count) + text)
                return changed
            })
    }

    /// The implementation reads another tensor in place of an input, made of the right one.
    static func input(
        _ name: String, _ summary: String, _ clauses: [String], _ input: String,
        _ change: @escaping @Sendable (GoldenCase, Tensor) -> Tensor?
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                guard let old = goldenCase.inputs[input], let new = change(goldenCase, old), new != old else {
                    return nil
                }
                var changed = goldenCase
                changed.inputs = goldenCase.inputs.replacing(input, with: new)
                return changed
            })
    }
}

extension TensorGroup {
    /// The same group with one tensor exchanged.
    func replacing(_ name: String, with tensor: Tensor) -> TensorGroup {
        TensorGroup(tensors.map { $0.name == name ? NamedTensor(name, tensor) : $0 })
    }

    /// The same group with one tensor taken out.
    func removing(_ name: String) -> TensorGroup { TensorGroup(tensors.filter { $0.name != name }) }
}
