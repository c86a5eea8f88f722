import GoldenIO

func trainingFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] { [] }
