import GoldenIO

func attentionFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] { [] }
