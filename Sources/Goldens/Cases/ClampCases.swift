import GoldenIO

func clampFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] { [] }
