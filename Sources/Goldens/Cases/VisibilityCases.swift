import GoldenIO

func visibilityFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] { [] }
