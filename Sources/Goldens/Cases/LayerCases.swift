import GoldenIO

func layerFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] { [] }
