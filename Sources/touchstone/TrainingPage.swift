import Pages

/// A page about a training run: facts, the loss curve, text of the model. One file, readable without a network, light and dark.
enum TrainingPage {
    /// Something to show of a run.
    struct Section {
        let title: String
        /// What it says, as it stands, or nil.
        var text: String?
        /// A picture beside or in place of it.
        var svg: String?
    }

    static func html(title: String, command: String, facts: [(String, String)], _ sections: [Section]) -> String {
        var page = Page(title: title)
        page.heading(title, level: 1)
        page.parts.append("<p><code>\(Page.escaped(command))</code></p>")
        page.facts(facts)
        for section in sections {
            page.heading(section.title)
            if let svg = section.svg { page.figure(svg) }
            if let text = section.text { page.preformatted(text) }
        }
        return page.html
    }

    /// The loss of every step, and its mean over the last fiftieth of the run so far.
    static func lossCurve(_ losses: [Float], first: Int) -> String {
        guard let start = losses.first, let end = losses.last else { return "" }
        let window = max(1, losses.count / 50)
        return Plots.curve(
            losses, first: first, window: window,
            label: "Loss against step, from \(decimals(start)) to \(decimals(end))",
            xAxis: "step; thin: loss of the step, thick: mean of the last \(window)")
    }
}
