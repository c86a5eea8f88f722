import GoldenIO

func gumbelFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] { [] }
