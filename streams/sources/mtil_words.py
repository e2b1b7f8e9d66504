"""The words of MTIL: prompts and class names of its eleven data sets, after those published with CLIP and ZSCL.

The first prompt of a data set is for training, all of them are for evaluation. Names are the data sets' own, in lower
case, unless a table here says otherwise. They are ours where they differ from a published list: ZSCL writes "apartment
building/outdoor", capital letters, and two spaces in "head of a  crocodile".
"""

from __future__ import annotations

from collections.abc import Sequence

_STYLES = (
    "a photo of {} {}.", "a painting of {} {}.", "{} plastic {}.", "a sculpture of {} {}.", "a sketch of {} {}.",
    "a tattoo of {} {}.", "{} toy {}.", "a rendition of {} {}.", "{} embroidered {}.", "{} cartoon {}.",
    "{} {} in a video game.", "{} plushie {}.", "{} origami {}.", "art of {} {}.", "graffiti of {} {}.",
    "a drawing of {} {}.", "a doodle of {} {}.",
)  # fmt: skip
_QUALITIES = (
    "a photo of {} {}.", "a blurry photo of {} {}.", "a black and white photo of {} {}.",
    "a low contrast photo of {} {}.", "a high contrast photo of {} {}.", "a bad photo of {} {}.",
    "a good photo of {} {}.", "a photo of {} small {}.", "a photo of {} big {}.",
)  # fmt: skip


def _articles(templates: Sequence[str]) -> tuple[str, ...]:
    """All templates with the one article, then all with the other."""
    return tuple(template.format(article, "{}") for article in ("a", "the") for template in templates)


TEMPLATES = {
    "aircraft": _articles(("a photo of {} {}, a type of aircraft.",)),
    "caltech101": _articles(_STYLES),
    "cifar100": _articles(_QUALITIES),
    "dtd": _articles([f"a photo of {{}} {{}} {what}." for what in ("texture", "pattern", "thing", "object")]),
    "eurosat": tuple(f"a centered satellite photo of {article}{{}}." for article in ("", "a ", "the ")),
    "flowers102": ("a photo of a {}, a type of flower.",),
    "food101": ("a photo of a {}, a type of food.",),
    "mnist": ('a photo of the number: "{}".',),
    "oxford-pets": ("a photo of a {}, a type of pet.",),
    "stanford-cars": (
        "a photo of a {}, a type of car.", "a photo of a {}.", "a photo of the {}.", "a photo of my {}.",
        "i love my {}!", "a photo of my dirty {}.", "a photo of my clean {}.", "a photo of my new {}.",
        "a photo of my old {}.",
    ),
    "sun397": _articles(("a photo of {} {}.",)),
}  # fmt: skip

# By the published label as `plain` writes it.
EXCEPTIONS = {
    "caltech101": {
        "faces": "off-center face", "faces easy": "centered face", "leopards": "leopard", "motorbikes": "motorbike",
        "airplanes": "airplane", "car side": "side of a car", "cougar body": "body of a cougar cat",
        "cougar face": "face of a cougar cat", "crocodile head": "head of a crocodile",
        "flamingo head": "head of a flamingo", "snoopy": "snoopy (cartoon beagle)", "yin yang": "yin and yang symbol",
    },
    "eurosat": {
        "annualcrop": "annual crop land", "herbaceousvegetation": "brushland or shrubland",
        "highway": "highway or road", "industrial": "industrial buildings or commercial buildings",
        "pasture": "pasture land", "permanentcrop": "permanent crop land",
        "residential": "residential buildings or homes or apartments", "sealake": "lake or sea",
    },
    "mnist": {
        "0": "0 - zero", "1": "1 - one", "2": "2 - two", "3": "3 - three", "4": "4 - four", "5": "5 - five",
        "6": "6 - six", "7": "7 - seven", "8": "8 - eight", "9": "9 - nine",
    },
}  # fmt: skip

# By their numbers from 1, which the data set has in their place.
_FLOWERS = """
    pink primrose; hard-leaved pocket orchid; canterbury bells; sweet pea; english marigold; tiger lily; moon orchid;
    bird of paradise; monkshood; globe thistle; snapdragon; colt's foot; king protea; spear thistle; yellow iris;
    globe-flower; purple coneflower; peruvian lily; balloon flower; giant white arum lily; fire lily;
    pincushion flower; fritillary; red ginger; grape hyacinth; corn poppy; prince of wales feathers;
    stemless gentian; artichoke; sweet william; carnation; garden phlox; love in the mist; mexican aster;
    alpine sea holly; ruby-lipped cattleya; cape flower; great masterwort; siam tulip; lenten rose; barbeton daisy;
    daffodil; sword lily; poinsettia; bolero deep blue; wallflower; marigold; buttercup; oxeye daisy;
    common dandelion; petunia; wild pansy; primula; sunflower; pelargonium; bishop of llandaff; gaura; geranium;
    orange dahlia; pink-yellow dahlia; cautleya spicata; japanese anemone; black-eyed susan; silverbush;
    californian poppy; osteospermum; spring crocus; bearded iris; windflower; tree poppy; gazania; azalea; water lily;
    rose; thorn apple; morning glory; passion flower; lotus; toad lily; anthurium; frangipani; clematis; hibiscus;
    columbine; desert-rose; tree mallow; magnolia; cyclamen; watercress; canna lily; hippeastrum; bee balm; ball moss;
    foxglove; bougainvillea; camellia; mallow; mexican petunia; bromelia; blanket flower; trumpet creeper;
    blackberry lily"""
FLOWERS = tuple(" ".join(_FLOWERS.split()).split("; "))


def plain(label: str) -> str:
    """A published label, such as "apartment_building/outdoor", in lower-case words with single spaces."""
    return " ".join(label.replace("_", " ").replace("/", " ").lower().split())


def word(domain: str, label: str) -> str:
    """What a class is called in a prompt."""
    return EXCEPTIONS.get(domain, {}).get(plain(label), plain(label))


def prompts(templates: Sequence[str], names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The prompts of each class."""
    return tuple(tuple(template.replace("{}", name) for template in templates) for name in names)
