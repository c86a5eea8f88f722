/// What a comparison comes to. Its word in a report and its exit status say the same thing: nothing else decides either.
public enum Judgement: Int32, Sendable, Hashable, CaseIterable {
    /// Something was compared and all of it is as it should be.
    case conforms = 0
    /// Something is not.
    case doesNotConform = 1
    /// Something that was asked could not be judged, or nothing was there to be.
    case notJudged = 2

    /// Of the process.
    public var exitStatus: Int32 { rawValue }

    /// As a report says it.
    public var word: String {
        switch self {
        case .conforms: "CONFORMS"
        case .doesNotConform: "DOES NOT CONFORM"
        case .notJudged: "NOT ALL JUDGED"
        }
    }
}
