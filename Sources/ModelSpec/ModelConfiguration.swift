/// Everything that decides the bits of a training run but its data: sizes, techniques, optimizer (clause T).
///
/// The property names in snake_case are the keys of configuration files and of the recipe of `training.step`.
public struct ModelConfiguration: Sendable, Hashable {
    // MARK: Sizes
    /// V, the number of tokens; ids are 0 ..< V.
    public var vocabulary = 256
    /// C
    public var width = 64
    /// L
    public var layers = 2
    /// H
    public var heads = 4
    /// G, a divisor of H.
    public var keyValueHeads = 1
    /// D, even.
    public var headDimension = 16
    /// F
    public var feedForwardWidth = 256
    /// T, tokens of a sequence.
    public var sequenceLength = 64
    /// B, sequences of a step, of all ranks together.
    public var batch = 4

    // MARK: Techniques
    public var dot = DotRecipe.pairedFTZ
    /// One entry a layer: the window, or 0 for none (V2). Empty: none in any layer.
    public var windows: [Int] = []
    /// One entry a layer: the layer whose keys and values it uses, itself or an earlier one that has its own. Empty: every layer its own.
    public var keyValueSource: [Int] = []
    public var rotaryBase: Float = 10000
    public var normEpsilon: Float = 0x1p-20
    /// c of Z2 for attention; 0 leaves the term out.
    public var zregC: Float = 0x1p-14
    public var zregForm = ZRegForm.folded
    /// c of Z4 for the output logits.
    public var outputZRegC: Float = 0x1p-14
    public var clamp = ClampKind.dynamic
    /// kappa of C1.
    public var clampKappa: Float = 4
    /// The limit of a static clamp: of the value after ReLU^2.
    public var clampLimit: Float = 16
    public var clampGradient = ClampGradient.straightThrough
    /// Whether the clamped activation goes through int8 (C3).
    public var int8 = false
    /// k of the soft targets of distillation (K4); 0: hard targets.
    public var distillationK = 0

    // MARK: Optimizer
    public var learningRate: Float = 0x1p-9
    public var schedule = Schedule.cosine
    public var warmupSteps = 10
    public var totalSteps = 200
    /// The learning rate at the end as a fraction of the greatest.
    public var finalFraction: Float = 0.125
    public var beta1: Float = 0.9
    public var beta2: Float = 0.99
    public var adamEpsilon: Float = 0x1p-27
    public var weightDecay: Float = 0.0625
    /// 0: gradients are not clipped.
    public var clipNorm: Float = 1

    // MARK: Data parallelism
    /// W, at most `batch`.
    public var ranks = 1
    public var compression = Compression.none
    public var squinchVariant = SquinchVariant.floor16
    public var errorFeedback = false

    /// Of the initial weights, the order of data and stochastic codes.
    public var seed: UInt64 = 0x746F_7563_6873_746F

    public init() {}
}

/// A configuration that no model has: the key and what was expected of it.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// In snake_case, as in files.
    public let key: String
    public let message: String

    public init(_ key: String, _ message: String) {
        self.key = key
        self.message = message
    }

    public var description: String { "configuration key '\(key)': \(message)" }
}

extension ModelConfiguration {
    /// Checks what the keys demand of one another.
    public func validate() throws(ConfigurationError) {
        func inRange(_ key: String, _ value: Int, _ range: ClosedRange<Int>) throws(ConfigurationError) {
            guard range.contains(value) else {
                throw ConfigurationError(key, "is \(value); expected \(range.lowerBound) to \(range.upperBound)")
            }
        }
        func finite(_ key: String, _ value: Float, _ range: ClosedRange<Float>) throws(ConfigurationError) {
            guard value.isFinite, range.contains(value) else {
                throw ConfigurationError(key, "is \(value); expected \(range.lowerBound) to \(range.upperBound)")
            }
        }
        let large = Float.greatestFiniteMagnitude
        try inRange("vocabulary", vocabulary, 2...1 << 24)
        try inRange("width", width, 1...1 << 16)
        try inRange("layers", layers, 1...1024)
        try inRange("heads", heads, 1...4096)
        try inRange("key_value_heads", keyValueHeads, 1...heads)
        guard heads % keyValueHeads == 0 else {
            throw ConfigurationError("key_value_heads", "is \(keyValueHeads), which does not divide heads, \(heads)")
        }
        try inRange("head_dimension", headDimension, 2...4096)
        guard headDimension % 2 == 0 else {
            throw ConfigurationError("head_dimension", "is \(headDimension); expected an even number")
        }
        try inRange("feed_forward_width", feedForwardWidth, 1...1 << 20)
        try inRange("sequence_length", sequenceLength, 1...1 << 20)
        try inRange("batch", batch, 1...1 << 16)
        guard windows.isEmpty || windows.count == layers else {
            throw ConfigurationError(
                "windows", "has \(windows.count) entries; expected none or one for each of \(layers) layers")
        }
        for window in windows { try inRange("windows", window, 0...1 << 30) }
        guard keyValueSource.isEmpty || keyValueSource.count == layers else {
            throw ConfigurationError(
                "key_value_source",
                "has \(keyValueSource.count) entries; expected none or one for each of \(layers) layers")
        }
        for (layer, source) in keyValueSource.enumerated() {
            guard (0...layer).contains(source), keyValueSource[source] == source else {
                throw ConfigurationError(
                    "key_value_source",
                    "gives layer \(layer) the source \(source); expected itself or an earlier layer that has its own")
            }
        }
        try finite("rotary_base", rotaryBase, 1...large)
        try finite("norm_epsilon", normEpsilon, 0...large)
        try finite("zreg_c", zregC, -large...large)
        try finite("output_zreg_c", outputZRegC, -large...large)
        try finite("clamp_kappa", clampKappa, 0...large)
        try finite("clamp_limit", clampLimit, 0...large)
        if int8 && clamp == .none { throw ConfigurationError("int8", "is true; expected false where clamp is none") }
        if errorFeedback && compression != .squinch {
            throw ConfigurationError("error_feedback", "is true; expected false where compression is not squinch")
        }
        try inRange("distillation_k", distillationK, 0...vocabulary)
        try finite("learning_rate", learningRate, 0...large)
        try inRange("warmup_steps", warmupSteps, 0...1 << 30)
        try inRange("total_steps", totalSteps, 1...1 << 30)
        try finite("final_fraction", finalFraction, 0...1)
        for (key, beta) in [("beta1", beta1), ("beta2", beta2)] {
            guard beta >= 0, beta < 1 else {
                throw ConfigurationError(key, "is \(beta); expected 0 or more and below 1")
            }
        }
        try finite("adam_epsilon", adamEpsilon, 0...large)
        try finite("weight_decay", weightDecay, 0...large)
        try finite("clip_norm", clipNorm, 0...large)
        try inRange("ranks", ranks, 1...batch)
    }

    /// Whether the gradients of several ranks are combined, or one rank's pass through a codec (T5).
    public var combinesGradients: Bool { ranks > 1 || compression != .none }

    /// Whether there are residuals (S7).
    public var usesErrorFeedback: Bool { compression == .squinch && errorFeedback }

    /// The window of a layer; nil for none.
    public func window(layer: Int) -> Int? {
        windows.isEmpty || windows[layer] == 0 ? nil : windows[layer]
    }

    /// The layer whose keys and values a layer uses.
    public func keyValueSource(layer: Int) -> Int { keyValueSource.isEmpty ? layer : keyValueSource[layer] }

    /// Whether a layer has keys and values of its own.
    public func hasKeyValue(layer: Int) -> Bool { keyValueSource(layer: layer) == layer }

    /// A parameter of the model (T1).
    public struct Parameter: Sendable, Hashable {
        public let name: String
        public let shape: [Int]
        /// Initial values are normal with the standard deviation RNE32(1/sqrt(n)), or all 1 where this is nil.
        public let inverseVariance: Int?
        /// The number of elements.
        public var count: Int { shape.reduce(1, *) }
        /// Whether AdamW decays it: all but the norms' gains.
        public var decays: Bool { inverseVariance != nil }
    }

    /// The parameters in the order of T1.
    public var parameters: [Parameter] {
        let (c, hd, gd, f) = (width, heads * headDimension, keyValueHeads * headDimension, feedForwardWidth)
        var list = [Parameter(name: "embedding", shape: [vocabulary, c], inverseVariance: c)]
        for layer in 0..<layers {
            let l = "layers.\(layer)"
            list.append(Parameter(name: "\(l).attention.norm", shape: [c], inverseVariance: nil))
            list.append(Parameter(name: "\(l).attention.query", shape: [c, hd], inverseVariance: c))
            if hasKeyValue(layer: layer) {
                list.append(Parameter(name: "\(l).attention.key", shape: [c, gd], inverseVariance: c))
                list.append(Parameter(name: "\(l).attention.value", shape: [c, gd], inverseVariance: c))
            }
            list.append(Parameter(name: "\(l).attention.output", shape: [hd, c], inverseVariance: 2 * layers * hd))
            list.append(Parameter(name: "\(l).mlp.norm", shape: [c], inverseVariance: nil))
            list.append(Parameter(name: "\(l).mlp.up", shape: [c, f], inverseVariance: c))
            list.append(Parameter(name: "\(l).mlp.down", shape: [f, c], inverseVariance: 2 * layers * f))
        }
        list.append(Parameter(name: "norm", shape: [c], inverseVariance: nil))
        return list
    }
}

extension ModelConfiguration {
    /// A configuration by name.
    public enum Preset: String, Sendable, CaseIterable {
        /// A step of the reference takes about a second.
        case tiny
        /// Trains in minutes on a few cores.
        case small
        /// The sizes at which speed is compared.
        case bench
    }

    public init(preset: Preset) {
        self.init()
        switch preset {
        case .tiny:
            break
        case .small:
            (width, layers, heads, keyValueHeads, headDimension, feedForwardWidth) = (256, 6, 8, 2, 32, 1024)
            (sequenceLength, batch) = (256, 16)
            windows = [64, 64, 64, 64, 64, 0]
            int8 = true
            (warmupSteps, totalSteps) = (100, 2000)
        case .bench:
            (width, layers, heads, keyValueHeads, headDimension, feedForwardWidth) = (512, 6, 8, 1, 64, 2048)
            (sequenceLength, batch) = (512, 8)
            (warmupSteps, totalSteps) = (100, 2000)
        }
    }
}
