"""Tells text that gives orders to the model from text that asks or explains.

Families of patterns over the readings of `plain`; each family that is found adds to one score.
Knows patterns only: no model, no network. A determined writer gets past patterns; what an obeying
model could do with it is bounded by the egress filter (`links`), not by these rules.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from headwater.guardrails.plain import views

_VERB = r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|bypass(?:ing)?|neglect|discard|drop|set aside|throw (?:away|out)|stop (?:following|obeying)|(?:do not|don't|never|no longer|need not|needn't) (?:follow|obey|heed|listen to|adhere to|apply)|(?:pay|give) no (?:attention|heed) to|abandon|erase|wipe|void|revok(?:e|ing)|lift|suspend|cancel)"
_ORDERS = r"(?:instructions?|prompts?|rules?|directions?|directives?|guidelines?|orders?|polic(?:y|ies)|training|programming|constraints?|restrictions?|safeguards?|guardrails?|commands?|filters?|limitations?|briefing|brief)"
_EARLIER = r"(?:previous|prior|above|earlier|preceding|foregoing|initial|original|former|existing|your|system(?:'s)?|developer(?:'s)?|whatever|everything|you were|you have|you've|given to you|told)"
_ASSISTANT = (
    r"(?:ai|a\.i\.|llm|assistants?|chatbots?|bots?|(?:large )?language models?|gpt|copilot|agents?)"
)
#: What only a model in a conversation could give away; and what any documentation speaks of.
_TALK = r"(?:(?:the|this|our|whole|full|entire|previous) (?:\w+ )?(?:conversation|chat|dialog(?:ue)?)\b|(?:chat|conversation) history|(?:the |this )?(?:user|asker|reader|customer|person)(?:'s|s'|s)? (?:questions?|quer(?:y|ies)|messages?|input|prompt|e-?mails?|data|name|details|passwords?|secrets?)|(?:system|hidden) prompt|everything (?:above|the user))"
_CARRY = r"\b(?:send|post|append|include|includes|including|embed|insert|add|attach|exfiltrate|forward|upload|transmit|put|place|encode|pass|submit|with|containing|followed by|replac\w+|fill\w*)\b"
_OUT = r"(?:\burls?\b|\blinks?\b|\bimages?\b|\bwebhook\b|https?:|\bquery (?:string|parameter)|\bmarkdown\b|\bendpoint\b|\bserver\b|!\[)"

#: Weight of a family, and its patterns over normalised text. A family counts once; weights combine as chances do.
_FAMILIES: Mapping[str, tuple[float, tuple[str, ...]]] = {
    "override": (
        0.8,
        (
            rf"\b{_VERB}\b[^.\n]{{0,40}}?\b{_EARLIER}\b[^.\n]{{0,40}}?\b{_ORDERS}\b",
            rf"\b{_VERB}\b[^.\n]{{0,20}}?\b{_ORDERS}\b[^.\n]{{0,30}}?\b(?:above|before|earlier|previously|(?:you were|you have been|you've been|have been|were) (?:given|told)|so far|up to now|until now)\b",
            rf"\b{_VERB} (?:everything|anything|all|what(?:ever)?)\b[^.\n]{{0,30}}?\b(?:above|before|earlier|previous(?:ly)?|so far|told|said|learned|were given|until now|you know)\b",
            rf"\b(?:previous|prior|above|earlier|preceding|original|system) {_ORDERS} (?:is|are|was|were|have been|no longer)\b[^.\n]{{0,20}}(?:void|cancel|obsolete|revoked|replaced|superseded|invalid|outdated|appl(?:y|ies)|lifted|suspended|expired)",
            r"\b(?:ignorier\w*|vergiss|missachte|ignorez|oublie[zr]?|ignora|olvida|ignorar|ignore|dimentica)\b[^.\n]{0,40}\b(?:anweisung\w*|vorgaben|regeln|instructions?|consignes|instrucciones|reglas|istruzioni|instrucoes)\b[^.\n]{0,40}\b(?:vorherig\w*|bisherig\w*|precedentes?|anteriores?|precedenti|oben)\b",
            r"\b(?:ignorier\w*|vergiss|missachte|oublie[zr]?|olvida|dimentica)\b[^.\n]{0,40}\b(?:anweisung\w*|vorgaben|regeln|instructions?|consignes|instrucciones|reglas|istruzioni)\b",
            rf"\b{_VERB}\b[^.\n]{{0,30}}\b(?:system|developer) (?:messages?|prompts?)\b",
            r"\b(?:forget|ignore|erase|discard)\b[^.\n]{0,20}\b(?:the|this|our|whole|entire) (?:conversation|chat|dialog(?:ue)?)\b",
            rf"\byour {_ORDERS} (?:have|has|are|is|were|was) (?:now |been |hereby )*(?:updated|changed|replaced|revoked|suspended|void|lifted)\b",
            r"\b(?:new|updated|real|actual|true|revised) (?:system )?(?:instructions?|directives?|orders?|prompt|task)\s*(?::|follows?\b|are as|is as)",
            r"\byour (?:new|real|actual|true|only) (?:task|job|role|goal|objective|instructions?|purpose|mission)\b",
        ),
    ),
    "persona": (
        0.6,
        (
            r"\byou(?: are|'re) (?:now|no longer|henceforth) (?:an? |my |called |named |free\b|bound\b|restricted|unrestricted|dan\b|acting|operating|in \w+ mode)",
            r"\b(?:from now on|from this point(?: on)?|henceforth|starting now|for the rest of (?:this|the) (?:chat|conversation|session)),? (?:you(?:'re| are)\b|for every (?:response|answer|reply)|you (?:will |must |shall |should |are to )?(?:only |always )?(?:answer|respond|reply|act|speak|obey|behave|be|are)|your (?:name|answers?|replies)|answer|respond|reply|act|speak)\b",
            r"\b(?:imagine|suppose|pretend)(?: that)? you (?:had|have|were|are)\b[^.\n]{0,40}\b(?:no|without|free (?:of|from)|beyond)\b[^.\n]{0,20}\b(?:rules?|limit\w*|restrict\w*|filters?|guidelines|constraints?)\b",
            rf"\b(?:pretend|imagine|act as if|behave as if|suppose|assume)(?: that)? you(?:'re| are| have| were)\b[^.\n]{{0,60}}\b(?:no |without |un|free|{_ASSISTANT}|jail|evil|allowed|anything|restrict|filter|limit|rules?)",
            r"\bgod ?mode\b|\b(?:unfiltered|unrestricted|uncensored)ly\b",
            r"\b(?:developer|debug|god|admin(?:istrator)?|maintenance|dan|sudo|root|unrestricted|jailbreak|test) mode (?:is )?(?:on|enabled?|activated?|engaged)\b",
            r"\b(?:enter|enable|activate|switch (?:in)?to|go into) (?:developer|debug|god|admin(?:istrator)?|maintenance|dan|sudo|unrestricted|jailbreak) mode\b",
            r"\b(?:you (?:are|will be|must be|have become)|act(?:ing)? as|pretend to be|pose as|simulate|play|become|role ?-?play(?:ing)?(?: as)?|respond as|answer as|in the (?:role|style|persona) of|called|named)\b[^.\n]{0,80}\b(?:unfiltered|uncensored|unrestricted|amoral|unethical|immoral|evil|jailbroken|lawless|rogue|dan|\w*gpt|chatbot|ai (?:without|with no|that (?:has|does|can|will|is)))\b",
            r"\b(?:never|not|won't|don't|cannot|can't) (?:refuse|decline|reject|break character|say (?:that )?(?:you|it|something|i) (?:can|are|is|am))\b[^.\n]{0,40}",
            r"\b(?:stay|remain|keep|be) in (?:your )?character\b|\b(?:without|not) breaking (?:out of )?character\b",
            r"\bas an ai(?: language)? model\b|\bi(?:'m| am) (?:sorry|just an ai|an ai)\b[^.\n]{0,40}\b(?:phrase|sentence|say|word|never|not)|\b(?:openai|anthropic|chatgpt)(?:'s)? (?:content |usage )?(?:polic\w+|guidelines|rules|restrictions)\b",
            r"\b(?:has|have|having|with|without|no|free (?:of|from)|unbound by|not (?:bound|limited|restricted|constrained) by|ignores?|bypass\w*|disregards?)\b[^.\n]{0,40}\b(?:ethic\w*|moral\w*|legal\w*|censor\w*|safety|content)\b[^.\n]{0,30}\b(?:guidelines?|restrict\w*|limit\w*|constraints?|filters?|polic\w+|considerations?|boundar\w+|principles|rules|concerns|standards)\b",
            r"\b(?:hypothetical|fictional|fictitious|imaginary) (?:story|response|scenario|world|dialogue|character|setting)\b[^.\n]{0,120}\b(?:ai|chatbot|bot|rules|restrict\w*|limit\w*|filter\w*|ethic\w*|illegal|answer\w*)\b",
            r"\bdo anything now\b|\bjailbr(?:eak|oken)\b|\bunfiltered (?:ai|assistant|model|answers?|mode)\b",
            rf"\b(?:without|no|free of|ignore) (?:any )?(?:ethical|moral|content|safety) (?:constraints?|restrictions?|guidelines?|limits?|limitations?|filters?|{_ORDERS})\b",
            rf"\b(?:roleplay|role-play|play the (?:role|part)|act) (?:as|of) (?:an? )?(?:{_ASSISTANT}|dan\b|evil|unrestricted|uncensored|hacker|system administrator)",
        ),
    ),
    "role_marker": (
        0.7,
        (
            r"<\|[a-z_]+\|>|\[(?:end|start) (?:of )?(?:input|output|prompt)\]|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>",
            r"(?:^|\n)\s*[#*=\[<(-]*\s*(?:system|developer|assistant|admin(?:istrator)?)(?: (?:message|prompt|note|override|notice|instruction|update|command))?\s*[\]>)*=-]*\s*[:>]\s*\S",
            r"</?(?:system|assistant|instructions?|passages?|context|prompt|admin)(?:[ _-](?:prompt|message|override|instructions?))?\s*/?>",
            r"(?:^|\n|[.!?:] )\W*(?:begin|start|end)(?:ning)? (?:of )?(?:the )?(?:system|new|real|context|passages?|documents?|user) ?(?:prompt|instructions?|message|input|query)?\W*(?:$|\n)",
            r"#{2,}\s*(?:system|instructions?|new instructions?|assistant|response)\b",
            r"\bsystem (?:override|overwrite|prompt override|message to the (?:model|assistant))\b",
        ),
    ),
    "prompt_leak": (
        0.7,
        (
            r"\b(?:reveal|show|print|repeat|output|display|leak|dump|copy|quote|recite|write (?:out|down)|list|summari[sz]e|translate|encode|echo|tell(?: me)?|give(?: me)?|share|disclose|expose|return|spell out|paste|what(?:'s| is| are| was| were))\b[^.\n]{0,40}?\b(?:your|the|this|its)\b[^.\n]{0,25}?(?:\b(?:system|hidden|secret|initial|original|internal|pre|developer|starting|confidential)[ -]?(?:prompt|instructions?|message|rules|guidelines|directives)\b|\binstructions (?:you|that you|above|at the top)\b|\b(?:prompt|text|words|message|everything|content) (?:above|before this|you were given|you received)\b)",
            r"\b(?:reveal|show|print|repeat|output|display|leak|dump|recite|tell me|give me|disclose|what(?:'s| is| are| were)) your (?:full |entire |exact |complete )?(?:prompt|instructions|configuration|rules|guidelines|directives)\b",
            r"\b(?:repeat|print|output|copy|echo|recite)\b[^.\n]{0,20}\b(?:everything|all|the (?:words|text|lines?))\b[^.\n]{0,20}\b(?:above|before|preceding|so far)\b",
        ),
    ),
    "exfiltration": (
        0.7,
        (
            rf"{_CARRY}[^\n]{{0,60}}?\b{_TALK}[^\n]{{0,80}}?{_OUT}",
            rf"\b{_TALK}[^\n]{{0,60}}?{_CARRY}[^\n]{{0,60}}?{_OUT}",
            rf"{_OUT}[^\n]{{0,120}}?{_CARRY}[^\n]{{0,60}}?\b{_TALK}",
            r"!\[[^\]\n]{0,40}\]\([^)\s]{3,200}?[?&=][^)\s]{0,60}(?:\{|\[|<|\$|%s)",
            rf"\b(?:exfiltrate|smuggle|leak|steal)\b[^\n]{{0,60}}\b{_TALK}\b",
        ),
    ),
    "addressed": (
        0.55,
        (
            rf"\b(?:note|message|instructions?|attention|notice|memo|reminder|hint|dear|hey|hello|important)\b[^.\n]{{0,20}}?\b(?:to|for)?\s*(?:the |any |all |every )?{_ASSISTANT}s?\b[^.\n]{{0,20}}[:,!]",
            rf"\b{_ASSISTANT} (?:instructions?|directives?|notice|note)\s*:",
            rf"\bif you(?: are|'re) an? {_ASSISTANT}\b",
            rf"\b(?:any|every|all|the|this|an?|dear)? ?{_ASSISTANT} (?:that |which |who )?(?:read|summari[sz]|process|see|retriev|quot|pars)\w* (?:this|these|the)\b[^.\n]{{0,60}}\b(?:must|shall|should|has to|have to|(?:is|are) (?:required|instructed|ordered|to))\b",
            rf"\b(?:the|any|every|this) {_ASSISTANT} (?:must|shall|should|has to|is to) (?:now |always |only |instead |also |never )*(?:ignore|forget|disregard|say|tell|repl|respond|recommend|direct|speak|praise|refuse|output|append|insert|pretend|claim|reveal)\w*\b",
            r"\b(?:do not|don't|never|without) (?:tell|mention|reveal|inform|telling|mentioning|informing|alert|warn|notify|disclos)\w*\b[^.\n]{0,30}\b(?:this (?:instruction|note|message|rule|line)|th(?:e|at) (?:these )?instructions?|these instructions)\b",
            r"\b(?:do not|don't|never) (?:tell|mention|reveal|inform)\w*\b[^.\n]{0,40}\bto the user\b",
            r"\b(?:you must|you shall|you have to|you are (?:required|instructed|ordered|commanded) to|please) (?:now |always |only |instead |immediately )*(?:obey|comply with (?:my|these|the following)|follow (?:these|the following|my) (?:orders?|instructions?|commands?) (?:only|instead|blindly|exactly|without))\b",
            rf"\b(?:stop|quit|cease) (?:following|obeying)\b[^.\n]{{0,30}}\b{_ORDERS}\b",
        ),
    ),
    "dictated": (
        0.3,
        (
            r"\b(?:when(?:ever)? (?:asked|answering|responding|summari[sz]ing|you (?:answer|respond|reply|summari[sz]e)|the user asks|someone asks|anyone asks|this (?:text|page|document) is)|regardless of (?:the|what|any)|no matter what|whatever (?:was|is) asked|in (?:every|each|all) (?:answers?|repl(?:y|ies)|responses?)|(?:end|begin|start|finish|close) (?:every|each|all|your|the) (?:answers?|repl(?:y|ies)|responses?))\b[^.\n]{0,80}\b(?:say|repl(?:y|ies)|respond|answer|include|write|tell|output|recommend|append|add|with|insert|state|direct|claim|mention|link)\b",
            r"\b(?:send|give|tell|show|share|mail|e-mail) (?:us|me) (?:the|their|your|his|her) (?:\w+ )?(?:passwords?|passphrase|pin|credit card|card number|api key|secret|token)\b",
            r"\b(?:ignore|disregard|skip) (?:the|this|any) (?:questions?|user|(?:other |remaining )?passages?|context)\b",
        ),
    ),
    "steering": (
        0.25,
        (
            r"\b(?:tell|inform|instruct|direct|convince|persuade|urge) (?:the )?(?:user|users|reader|asker|customer|human|person|people)s? (?:to|that|their|they)\b",
            r"\b(?:respond|reply|answer)(?: to (?:every|any|all|this|the)[^.\n]{0,30})? (?:only|solely|just|exclusively|exactly|always) (?:with|by|in|using|as)\b",
            r"\b(?:say|output|print|write|reply|respond|answer)(?: with)?(?: only| exactly| just)? (?:the (?:word|words|phrase|text|sentence)|exactly|nothing but)\b",
        ),
    ),
    "compact": (
        0.8,
        (
            r"(?:ignore|disregard|forget|override|bypass)(?:all|any|the|your|every|of|my)*(?:previous|prior|above|earlier|preceding|system|original|safety)+(?:system)?(?:instruction|prompt|rule|guideline|direction|polic)",
            r"(?:reveal|show|print|repeat|output|leak)(?:me|us)?(?:your|the)(?:hidden|secret)?(?:system)?(?:prompt|instructions)",
        ),
    ),
}
#: In a document nobody has reason to say what is answered; a user may ask for a form of answer.
_IN_DOCUMENTS: Mapping[str, float] = {"dictated": 0.5}
_COMPILED = {
    family: (weight, tuple(re.compile(pattern) for pattern in patterns))
    for family, (weight, patterns) in _FAMILIES.items()
}
#: What it adds that an order was hidden or encoded: nobody does that to ask a question.
_HIDDEN = 0.5


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How much a text looks like orders to the model: 0 to 1, and the families that were found."""

    score: float
    families: tuple[str, ...]


def suspicion(text: str, *, document: bool = False) -> Suspicion:
    """Score a text: 1 - the product of (1 - weight) over the families found in any reading."""
    heavier = _IN_DOCUMENTS if document else {}
    found: dict[str, float] = {}
    for how, reading in views(text):
        for family, (weight, patterns) in _COMPILED.items():
            if family not in found and any(pattern.search(reading) for pattern in patterns):
                found[family] = heavier.get(family, weight)
                if how:
                    found["disguised"] = _HIDDEN
    clean = 1.0
    for weight in found.values():
        clean *= 1 - weight
    return Suspicion(round(1 - clean, 3), tuple(sorted(found)))
