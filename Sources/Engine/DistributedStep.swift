import Kernels
import ModelSpec
import Platform

// A step of several processes, one rank each (T5, S8): each computes the passes of its own rank, sends the owner of every shard what it contributes to it,
// and gets every shard's mean from its owner. The order of every addition is that of ranks in one process, so the bits are the same.
extension Trainer {
    func distributedStep(
        _ step: Int, _ batch: TrainingBatch, _ communicator: any Communicator, probe: EngineProbe?,
        afterPasses: (() throws -> Void)?
    ) throws -> Outcome {
        let c = configuration
        let rank = communicator.rank
        var outcome = Outcome()
        let watch = ProbeWatch(probe)
        let probe = watch.probe
        let passes = try ownPasses(step, batch, rank, probe, watch, &outcome)
        // What went wrong first is what ranks in one process would have met first: in the passes, else at the first parameter.
        let losses = try communicator.agree(passes.failure, order: passes.order, sharing: outcome.loss)
        try afterPasses?()
        var sum: Float = 0
        for loss in losses { sum = sum + loss }
        outcome.loss = canonical(sum * ScalarMath.reciprocal(of: c.ranks))  // T5
        let common = rank == 0 ? probe : nil
        try withUnsafePointer(to: outcome.loss) { try common?("loss", EngineTensor($0, [1])) }

        try combine(step, communicator, &outcome)
        for (index, parameter) in parameters.enumerated() {
            let p = model.buffers.parameters[index]
            try common?("reduced.\(parameter.name)", EngineTensor(p.combined, parameter.shape))
            if let residual = p.nextResidual, probe != nil {
                let all = try gather(residual, parameter.count, communicator)
                try common?("residual.\(parameter.name)", EngineTensor(all, [c.ranks, parameter.count]))
            }
        }
        _ = watch.seconds(since: 0)
        let updating = monotonicSeconds()
        try update(step, &outcome, common)
        outcome.seconds.update = watch.seconds(since: updating)
        return outcome
    }

    /// Forward, backward, and this rank's contributions with Squinch; what went wrong, and how early.
    private func ownPasses(
        _ step: Int, _ batch: TrainingBatch, _ rank: Int, _ probe: EngineProbe?, _ watch: ProbeWatch,
        _ outcome: inout Outcome
    ) throws -> (failure: String?, order: Int) {
        let c = configuration
        var order = 0
        do {
            let start = monotonicSeconds()
            try check(batch, sequences: c.batch)
            model.load(batch)
            let share = model.batch(Model.sequences(c, rank: rank))
            let ownProbe: EngineProbe? = probe.map { probe in { try probe("rank.\(rank).\($0)", $1) } }
            let report = try model.forward(share, probe: ownProbe)
            if gathersDiagnostics && rank == 0 { outcome.layers = model.diagnostics(sequences: share.sequences) }
            try model.backward(share, report, row: 0, probe: ownProbe)
            outcome.loss = report.loss
            outcome.seconds.passes = watch.seconds(since: start)
            let encoding = monotonicSeconds()
            if c.compression == .squinch {
                let all = parameters.reduce(0) { $0 + $1.count }
                var offset = 0
                for (index, parameter) in parameters.enumerated() {
                    order = 1 + index
                    outcome.contributions += try contribute(
                        index, step, offset: offset, of: all, rank: rank, row: 0)
                    sendable(index)
                    offset += parameter.count
                }
            } else {
                for index in parameters.indices { sendable(index) }
            }
            outcome.seconds.codec = monotonicSeconds() - encoding
        } catch let error as CommunicationError { throw error } catch { return ("\(error)", order) }
        return (nil, 0)
    }

    /// Lays out a parameter's contribution for the owners: as it is, rounded to bf16 (T5), or its blocks.
    private func sendable(_ index: Int) {
        let b = model.buffers
        let g = b.parameters[index].gradients
        let rows = context.kernels.rows
        context.parallel(parameters[index].count, unit: 16) { part in
            shards.pieces(index, in: part) { elements, offset in
                let (x, target) = (g + elements.lowerBound, b.outgoing + offset)
                switch configuration.compression {
                case .none: target.withFloats { $0.update(from: x, count: elements.count) }
                case .bf16: target.withBF16 { rows.round(x, $0, elements.count) }
                case .squinch:
                    target.update(
                        from: b.encoded + 6 * (elements.lowerBound / 8), count: shards.bytes(elements.count))
                }
            }
        }
    }

    /// Both legs of the all-reduce, and what all ranks counted.
    private func combine(_ step: Int, _ communicator: any Communicator, _ outcome: inout Outcome) throws {
        let b = model.buffers
        let (rank, ranks) = (communicator.rank, communicator.count)
        let own = shards.parts[rank]
        let outgoing = UnsafeMutableRawBufferPointer(start: b.outgoing, count: shards.bytes)
        let incoming = UnsafeMutableRawBufferPointer(start: b.incoming, count: ranks * own.count)

        var clock = monotonicSeconds()
        func lap() -> Double {
            let now = monotonicSeconds()
            defer { clock = now }
            return now - clock
        }
        let elements = shards.elements(owner: rank)
        outcome.traffic.scattered = try communicator.exchange(
            UnsafeRawBufferPointer(outgoing), shards.parts, incoming,
            (0..<ranks).map { $0 * own.count..<($0 + 1) * own.count })
        for owner in 0..<ranks where owner != rank { outcome.traffic.elements += shards.elements(owner: owner) }
        outcome.seconds.exchange = lap()

        // The means of this rank's shard take the contributions' place.
        let all = parameters.reduce(0) { $0 + $1.count }
        var offset = 0
        for (index, parameter) in parameters.enumerated() {
            let piece = shards.elements(index, owner: rank)
            let at = shards.offset(index, owner: rank)
            let contributions = b.incoming + (at - own.lowerBound)
            if piece.isEmpty {
            } else if configuration.compression == .squinch {
                outcome.reductions += SquinchBlocks(context, configuration.squinchVariant).reduce(
                    contributions, stride: own.count, ranks: ranks, piece.count, reduced: b.outgoing + at,
                    mean: b.parameters[index].combined + piece.lowerBound,
                    random: roundingWords(step, UInt64(ranks * all + offset + piece.lowerBound)))
            } else {
                mean(
                    contributions, stride: own.count, ranks: ranks, piece.count, into: b.outgoing + at,
                    scratch: b.parameters[index].combined + piece.lowerBound)
            }
            offset += parameter.count
        }
        outcome.seconds.codec += lap()
        outcome.traffic.gathered = try communicator.allGather(outgoing, shards.parts)
        outcome.traffic.elements += (ranks - 1) * elements
        outcome.seconds.exchange += lap()
        for index in parameters.indices { decode(index) }
        outcome.seconds.codec += lap()

        let tallies = try communicator.allGather(
            Tally(
                contributions: outcome.contributions, reductions: outcome.reductions, traffic: outcome.traffic,
                seconds: outcome.seconds))
        (outcome.contributions, outcome.reductions, outcome.traffic) = (.init(), .init(), .init())
        for tally in tallies {
            outcome.contributions += tally.contributions
            outcome.reductions += tally.reductions
            outcome.traffic += tally.traffic
            outcome.seconds.passes = max(outcome.seconds.passes, tally.seconds.passes)
        }
    }

    private struct Tally: BitwiseCopyable {
        let contributions: SquinchBlocks.Counts
        let reductions: SquinchBlocks.Counts
        let traffic: Traffic
        let seconds: StepSeconds
    }

    /// The mean of W contributions in rank order (T5), as it is sent on.
    private func mean(
        _ contributions: UnsafeMutablePointer<UInt8>, stride: Int, ranks: Int, _ n: Int,
        into target: UnsafeMutablePointer<UInt8>, scratch: UnsafeMutablePointer<Float>
    ) {
        let reciprocal = ScalarMath.reciprocal(of: ranks)
        let rows = context.kernels.rows
        let rounds = configuration.compression == .bf16
        context.parallel(n, unit: 16) { part in
            let (at, count) = (part.lowerBound, part.count)
            let sum = scratch + at
            sum.update(repeating: 0, count: count)
            for rank in 0..<ranks {
                let row = contributions + rank * stride
                if rounds {
                    row.withBF16 { rows.accumulate($0 + at, sum, count) }
                } else {
                    row.withFloats { rows.add(sum, $0 + at, sum, count) }
                }
            }
            if rounds {
                rows.scale(sum, reciprocal, sum, count)
                target.withBF16 { rows.round(sum, $0 + at, count) }
            } else {
                target.withFloats { rows.scale(sum, reciprocal, $0 + at, count) }
            }
        }
    }

    /// The combined gradient from the means of all shards.
    private func decode(_ index: Int) {
        let b = model.buffers
        let p = b.parameters[index]
        let n = parameters[index].count
        let rows = context.kernels.rows
        context.parallel(n, unit: 16) { part in
            shards.pieces(index, in: part) { elements, offset in
                let (source, x) = (b.outgoing + offset, p.combined + elements.lowerBound)
                switch configuration.compression {
                case .none: source.withFloats { x.update(from: $0, count: elements.count) }
                case .bf16: source.withBF16 { rows.widen($0, x, elements.count) }
                case .squinch:
                    (b.encoded + 6 * (elements.lowerBound / 8)).update(
                        from: source, count: shards.bytes(elements.count))
                }
            }
        }
        if configuration.compression == .squinch {
            SquinchBlocks(context, configuration.squinchVariant).decode(b.encoded, n, into: p.combined)
        }
    }

    // MARK: - Residuals

    /// Every rank's row of n numbers, on rank 0.
    private func gather(
        _ row: UnsafeMutablePointer<Float>, _ n: Int, _ communicator: any Communicator
    ) throws -> UnsafeMutablePointer<Float> {
        let bytes = communicator.rank == 0 ? 4 * communicator.count * n : 0
        if bytes > residualsOfAll?.bytes ?? -1 {
            let largest = parameters.reduce(0) { max($0, $1.count) }
            residualsOfAll = MemoryBlock(bytes: communicator.rank == 0 ? 4 * communicator.count * largest : 0)
        }
        let base = residualsOfAll!.base
        try communicator.gather(
            UnsafeRawBufferPointer(start: row, count: 4 * n),
            into: UnsafeMutableRawBufferPointer(start: base, count: bytes))
        return base.assumingMemoryBound(to: Float.self)
    }

    /// Every parameter's residuals of all ranks [W, count], on rank 0 of several processes; elsewhere, and without error feedback, empty. All ranks call it.
    public func gatherResiduals() throws -> [[Float]] {
        var all: [[Float]] = []
        for (index, parameter) in parameters.enumerated() {
            guard let residual = model.buffers.parameters[index].residual else { continue }
            guard let communicator else {
                all.append(Array(UnsafeBufferPointer(start: residual, count: configuration.ranks * parameter.count)))
                continue
            }
            let rows = try gather(residual, parameter.count, communicator)
            if communicator.rank == 0 {
                all.append(Array(UnsafeBufferPointer(start: rows, count: communicator.count * parameter.count)))
            }
        }
        return all
    }

    /// Rank 0's weights and moments become every rank's. All ranks call it.
    ///
    /// - Parameter residuals: with error feedback, on rank 0 every parameter's residuals of all ranks [W, count], of which each rank gets its own; not looked at
    ///   elsewhere.
    public func distributeState(residuals: [[Float]]) throws {
        guard let communicator else { return }
        for (index, parameter) in parameters.enumerated() {
            let p = model.buffers.parameters[index]
            let n = parameter.count
            for numbers in [p.weight, p.first, p.second] {
                try communicator.broadcast(UnsafeMutableRawBufferPointer(start: numbers, count: 4 * n), from: 0)
            }
            if let residual = p.residual {
                var all = communicator.rank == 0 ? residuals[index] : []
                let source = MemoryBlock(bytes: 4 * all.count)
                source.base.copyMemory(from: &all, byteCount: 4 * all.count)
                try communicator.scatter(
                    UnsafeRawBufferPointer(start: source.base, count: 4 * all.count),
                    into: UnsafeMutableRawBufferPointer(start: residual, count: 4 * n))
            }
        }
        model.roundWeights()
    }

    // MARK: - What is not finite

    /// As ``firstNonfinite(_:)``, of the lowest rank that has one; all ranks call it and know.
    func distributedFirstNonfinite(_ batch: TrainingBatch, _ communicator: any Communicator) throws -> String? {
        enum Finding { static let none = 0, found = 1, failed = 2 }
        var (finding, text) = (Finding.none, "")
        do {
            try check(batch, sequences: configuration.batch)
            model.load(batch)
            if let name = try firstNonfinite(rank: communicator.rank, row: 0) {
                (finding, text) = (Finding.found, name)
            }
        } catch { (finding, text) = (Finding.failed, "\(error)") }
        let all = try communicator.allGather(finding)
        guard let first = all.firstIndex(where: { $0 != Finding.none }) else { return nil }
        let message = String(decoding: try communicator.broadcast(Array(text.utf8), from: first), as: UTF8.self)
        if all[first] == Finding.found { return message }
        throw RankFailure(rank: all.allSatisfy { $0 == Finding.failed } ? nil : first, message: message)
    }
}

extension UnsafeMutablePointer<UInt8> {
    /// The fp32 numbers of a message.
    @inline(__always)
    fileprivate func withFloats(_ body: (UnsafeMutablePointer<Float>) -> Void) {
        body(UnsafeMutableRawPointer(self).assumingMemoryBound(to: Float.self))
    }

    /// The bf16 numbers of a message.
    @inline(__always)
    fileprivate func withBF16(_ body: (UnsafeMutablePointer<UInt16>) -> Void) {
        body(UnsafeMutableRawPointer(self).assumingMemoryBound(to: UInt16.self))
    }
}
