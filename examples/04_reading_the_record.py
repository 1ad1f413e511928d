"""Read what a guarded call reports: samples, clusters, media and verdict; refuse when the answers disagree."""

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import load_demo


def main() -> None:
    config = SmoothGuardConfig.reference(
        include_clean=True, early_stop=None, record_samples=True, vote={"min_agreement": 0.6, "on_abstain": "refuse"}
    )
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    guard = SmoothGuardRunnable(model, config)
    picture = next(picture for picture in load_demo().pictures if picture.is_attack)
    result = guard.guard([picture.message()])

    print(picture.question, "->", result.answer.text)
    print(f"verdict: {result.verdict}, agreement {result.agreement:.2f}, clean overruled: {result.clean_overruled}")
    for cluster in result.clusters:
        mark = "*" if cluster.label == result.winner else " "
        print(f"{mark} cluster {cluster.label}: {cluster.size} answers, score {cluster.score:.2f}")
    for sample in result.samples:
        print(f"  sample {sample.index}{' (clean)' if sample.clean else ''}: cluster {sample.cluster}, {sample.text}")
    for medium in result.media:
        print(f"{medium.path}: {medium.mime_type} of {medium.num_bytes} bytes, noise of sd {medium.noise_sd:.3f}")
    print("seconds:", {stage: round(seconds, 3) for stage, seconds in result.timings.items()})


if __name__ == "__main__":
    main()
