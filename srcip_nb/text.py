"""The words of figures, tables' captions, checks and widgets, in English and in Japanese.

The notebooks of both languages have the same code cells, so what code says is chosen here: by ``SRCIP_LANG``, else by
the folder the notebook runs in (``notebooks/ja`` or ``notebooks/en``), else English. Names of Kubernetes (``Cluster``,
``node``, field names) are the same in both: the learner meets them untranslated in kubectl too.
"""

from __future__ import annotations

import os
from pathlib import Path

from srcip_nb.errors import UsageError

LANGUAGES = ("en", "ja")

EN = {
    # who an address belongs to
    "kind.client": "the client itself",
    "kind.node": "{node}'s own address",
    "kind.pod-network": "{node}'s address in the pod network",
    "kind.pod": "a pod on {node}",
    "kind.load-balancer": "the load balancer's address",
    "kind.service": "a Service's cluster IP",
    "kind.probe": "the kubelet's probe",
    "kind.unknown": "in nobody's hands that the API knows",
    "some_node": "a node",
    # figures
    "axis.requests": "requests",
    "axis.source": "source IP that nginx logged",
    "no_answer": "no answer: {error}",
    "no_answer.where": "no pod logged it",
    "no_log": "answered, log line not found",
    "nodes.title": "Who answered: requests per node",
    "nodes.caption": "Each bar is a node, each segment a pod on it, each number a count of requests.",
    "nodes.alt": "Bar chart, {total} requests. {parts}.",
    "nodes.part": "{node}: {count} ({pods})",
    "nodes.none": "{node}: 0",
    "nodes.empty": "no requests",
    "sources.title": "What nginx logged, before and after",
    "sources.caption": "One row for each source IP in nginx's log. Left {before}, right {after}.",
    "sources.alt": "Two bar charts of source IPs in nginx's log. {before}: {first}. {after}: {second}.",
    "sources.part": "{count} from {address} ({owner})",
    "sources.label": "{policy} ({count} requests)",
    "path.title": "The path of request {request} under externalTrafficPolicy: {policy}",
    "path.caption": "What is drawn solid was observed or stands in the address book; dashed: concluded, or not known.",
    "path.alt": "Path of request {request} under {policy}: {steps}.",
    "path.pod": "pod",
    "path.unknown": "not known",
    "path.src": "source",
    "path.dst": "destination",
    "path.lan": "network",
    "path.tunnel": "tunnel between the nodes",
    "path.inside": "inside the node",
    "path.between": "from node to node",
    "path.rules": "kube-proxy's rules",
    "path.node": "node {node}",
    "path.unknown_node": "which node: not known",
    "path.snat": "SNAT: {old} becomes {new}",
    "path.no_snat": "no SNAT: the source stays {old}",
    "path.dnat": "DNAT: {old} becomes {new}",
    "path.lost": "no answer ({error}); where the packet ended is not known from here",
    "path.why.target": "this node's own address was asked for",
    "path.why.announced": "this node announces the address",
    "path.why.source": "concluded: the source the pod saw is this node's",
    "path.why.local": "concluded: under Local no other node forwards",
    "path.step": "{where}, source {source}, destination {destination}",
    # tables
    "col.node": "node",
    "col.pod": "pod",
    "col.requests": "requests",
    "col.source_ip": "source IP",
    "col.owner": "whose address",
    "col.leg": "leg",
    "col.from": "from",
    "col.to": "to",
    "col.by": "by way of",
    "col.source": "source",
    "col.destination": "destination",
    "col.note": "what is known",
    # predictions and checks
    "predicted": "Your prediction for <b>{question}</b>: {answer}",
    "predict.change": "Change it before you run the next cells. The choices are: {choices}",
    "predict.right": "You predicted {answer}: that is what happened.",
    "predict.wrong": "You predicted {answer}, and it was {seen}. Worth a second look before you read on.",
    "check.held": "holds",
    "check.failed": "does not hold",
    "check.open": "not answered yet",
    "check.hint": "Hint: {hint}",
    "check.kept": "every answered request kept the client's address",
    "check.lost": "no answered request kept the client's address",
    "check.by": "the nodes that answered: {nodes}",
    "check.all_answered": "every request was answered",
    "check.timed_out": "every request ended in a timeout",
    "check.refused": "every request was refused",
    "check.ready": "{count} pods are ready, on {nodes} nodes",
    "check.address": "Service {service} has an external address",
    "check.health": "200 where a ready pod of the Service runs, 503 where none does",
    "seen": "Seen: {what}.",
    "seen.none": "nothing was answered",
    "seen.nodes": "answers from {nodes}",
    "seen.nobody": "nobody answered",
    "seen.kept": "{kept} of {answered} kept it ({addresses})",
    "seen.answered": "{count} answered",
    "seen.ready": "{ready} ready, on {nodes} nodes",
    "seen.address": "external address {address}",
    "seen.no_address": "no external address",
    "hint.policy": "Look at the column policy: which externalTrafficPolicy was in force?",
    "hint.answered": "Look at the column error; then at cluster.pods() and cluster.service().",
    "hint.nodes": "Where do the pods run (cluster.pods()), and which node announces the address?",
    "hint.ready": "cluster.events() says what the pods wait for.",
    "hint.address": "Is there a load balancer in this cluster? cluster.events() may say why it gives no address.",
    "hint.equal": "Compare it with the table above.",
    "hint.exercise": "Put your answer in place of the three dots and run the cell again.",
    "exercise.01.1": "the node port of the Service",
    "exercise.01.2": "the nodes on which no pod of the Deployment runs",
    "exercise.02.1": "how many requests were answered on the node they came in by",
    "exercise.02.2": "the nodes whose addresses nginx logged",
    "exercise.03.1": "the nodes to which a load balancer may send",
    "exercise.03.2": "how many requests were answered",
    "done.title": "Notebook {notebook}",
    "done.checks": "{held} checks hold, {failed} do not, {open} exercises not answered yet",
    "done.predictions": "{right} of {all} predictions came true",
    # widgets
    "w.policy": "Policy",
    "w.requests": "Requests",
    "w.run": "Set the policy and send",
    "w.busy": "Sending …",
    "w.ready": "Choose a policy and a number of requests, then press the button.",
    "w.result": "{policy}: {answered} of {total} answered, {kept} with the client's own address.",
    "w.static": "What the controls show when they are used: one run under {policy}, {total} requests.",
    "w.failed": "That did not work: {cause}.",
    "w.remedy": "What to do: {remedy}",
}

JA = {
    "kind.client": "クライアント自身",
    "kind.node": "{node}自身のアドレス",
    "kind.pod-network": "{node}のPodネットワーク側アドレス",
    "kind.pod": "{node}上のPod",
    "kind.load-balancer": "ロードバランサーのアドレス",
    "kind.service": "ServiceのクラスターIP",
    "kind.probe": "kubeletのプローブ",
    "kind.unknown": "APIからは持ち主が分からないアドレス",
    "some_node": "ノード",
    "axis.requests": "リクエスト数",
    "axis.source": "nginxのログに残った送信元IP",
    "no_answer": "応答なし: {error}",
    "no_answer.where": "どのPodのログにもない",
    "no_log": "応答あり・ログ行が見つからない",
    "nodes.title": "どこが応答したか: ノードごとのリクエスト数",
    "nodes.caption": "棒がノード、区切りがその上のPod、数字がリクエスト数です。",
    "nodes.alt": "棒グラフ。全{total}リクエスト。{parts}。",
    "nodes.part": "{node}: {count} ({pods})",
    "nodes.none": "{node}: 0",
    "nodes.empty": "リクエストなし",
    "sources.title": "nginxのログに残った送信元IP: 変更前と変更後",
    "sources.caption": "1行が1つの送信元IPです。左が{before}、右が{after}。",
    "sources.alt": "nginxのログに残った送信元IPの棒グラフ2枚。{before}: {first}。{after}: {second}。",
    "sources.part": "{address} ({owner})が{count}件",
    "sources.label": "{policy} ({count}リクエスト)",
    "path.title": "リクエスト{request}の経路 (externalTrafficPolicy: {policy})",
    "path.caption": "実線は観測できたもの、またはアドレス帳にあるもの。破線は推定、または不明です。",
    "path.alt": "{policy}でのリクエスト{request}の経路: {steps}。",
    "path.pod": "Pod",
    "path.unknown": "不明",
    "path.src": "送信元",
    "path.dst": "宛先",
    "path.lan": "ネットワーク",
    "path.tunnel": "ノード間のトンネル",
    "path.inside": "ノードの中",
    "path.between": "ノードからノードへ",
    "path.rules": "kube-proxyのルール",
    "path.node": "ノード {node}",
    "path.unknown_node": "どのノードかは不明",
    "path.snat": "SNAT: {old} → {new}",
    "path.no_snat": "SNATなし: 送信元は{old}のまま",
    "path.dnat": "DNAT: {old} → {new}",
    "path.lost": "応答なし ({error})。どこで消えたかはここからは不明",
    "path.why.target": "宛先のアドレスを持つノード",
    "path.why.announced": "このアドレスを告知しているノード",
    "path.why.source": "推定: Podから見えた送信元がこのノードのもの",
    "path.why.local": "推定: Localでは他のノードから転送されない",
    "path.step": "{where}では送信元{source}、宛先{destination}",
    "col.node": "ノード",
    "col.pod": "Pod",
    "col.requests": "リクエスト数",
    "col.source_ip": "送信元IP",
    "col.owner": "誰のアドレスか",
    "col.leg": "区間",
    "col.from": "どこから",
    "col.to": "どこへ",
    "col.by": "通り道",
    "col.source": "送信元",
    "col.destination": "宛先",
    "col.note": "分かっていること",
    "predicted": "<b>{question}</b>の予想: {answer}",
    "predict.change": "次のセルを実行する前に書き換えてみてください。選択肢: {choices}",
    "predict.right": "予想は{answer}。そのとおりになりました。",
    "predict.wrong": "予想は{answer}でしたが、実際は{seen}。先へ進む前に理由を考えてみましょう。",
    "check.held": "OK",
    "check.failed": "NG",
    "check.open": "未回答",
    "check.hint": "ヒント: {hint}",
    "check.kept": "応答のあった全リクエストで、クライアントのIPアドレスが保持されている",
    "check.lost": "応答のあった全リクエストで、クライアントのIPアドレスが失われている",
    "check.by": "応答したノード: {nodes}",
    "check.all_answered": "全リクエストに応答があった",
    "check.timed_out": "全リクエストがタイムアウトした",
    "check.refused": "全リクエストが拒否された (refused)",
    "check.ready": "{nodes}台のノードで{count}個のPodがReady",
    "check.address": "Service {service}に外部アドレスが付いている",
    "check.health": "ReadyなPodのあるノードは200、ないノードは503",
    "seen": "実際: {what}。",
    "seen.none": "応答が1つもない",
    "seen.nodes": "{nodes}から応答",
    "seen.nobody": "どこからも応答なし",
    "seen.kept": "{answered}件中{kept}件で保持 ({addresses})",
    "seen.answered": "応答{count}件",
    "seen.ready": "{nodes}台のノードで{ready}個がReady",
    "seen.address": "外部アドレスは{address}",
    "seen.no_address": "外部アドレスなし",
    "hint.policy": "policyの列を見てください。そのときのexternalTrafficPolicyは何でしたか?",
    "hint.answered": "errorの列、続いてcluster.pods()とcluster.service()を見てください。",
    "hint.nodes": "Podはどのノードにいますか (cluster.pods())? アドレスを告知しているノードは?",
    "hint.ready": "Podが何を待っているかはcluster.events()に出ます。",
    "hint.address": "このクラスターにロードバランサーはありますか? 理由はcluster.events()に出ることがあります。",
    "hint.equal": "上の表と見比べてください。",
    "hint.exercise": "「...」を自分の答えに書き換えて、もう一度セルを実行してください。",
    "exercise.01.1": "Serviceのノードポート番号",
    "exercise.01.2": "DeploymentのPodがいないノード",
    "exercise.02.1": "入口のノードでそのまま応答されたリクエスト数",
    "exercise.02.2": "nginxのログに残ったアドレスの持ち主のノード",
    "exercise.03.1": "ロードバランサーが送ってよいノード",
    "exercise.03.2": "応答のあったリクエスト数",
    "done.title": "ノートブック{notebook}",
    "done.checks": "チェック: OK {held}件、NG {failed}件、未回答の演習 {open}件",
    "done.predictions": "予想{all}件のうち{right}件が的中",
    "w.policy": "ポリシー",
    "w.requests": "リクエスト数",
    "w.run": "ポリシーを設定して送信",
    "w.busy": "送信中 …",
    "w.ready": "ポリシーとリクエスト数を選んで、ボタンを押してください。",
    "w.result": "{policy}: {total}件中{answered}件に応答。クライアント自身のIPアドレスのままは{kept}件。",
    "w.static": "操作すると次のように表示されます ({policy}で{total}リクエストを1回送った例)。",
    "w.failed": "うまくいきませんでした: {cause}。",
    "w.remedy": "対処: {remedy}",
}

_WORDS = {"en": EN, "ja": JA}


def language() -> str:
    """``en`` or ``ja``: what ``SRCIP_LANG`` says, else the notebook's folder, else ``en``.

    Raises:
        UsageError: ``SRCIP_LANG`` names another language.
    """
    chosen = os.environ.get("SRCIP_LANG")
    if chosen:
        if chosen not in LANGUAGES:
            raise UsageError(f"SRCIP_LANG is {chosen!r}", f"Set it to one of: {', '.join(LANGUAGES)}.")
        return chosen
    folder = Path.cwd().name
    return folder if folder in LANGUAGES else "en"


def t(key: str, lang: str | None = None, **values: object) -> str:
    """The words for ``key``, with ``values`` filled in.

    Args:
        key: an entry of ``EN`` and ``JA``.
        lang: ``en`` or ``ja``; ``language()`` if left out.
        values: what stands in braces in the text.

    Raises:
        KeyError: no such text, or a value is missing: a mistake in this package, which the tests find.
    """
    return _WORDS[lang or language()][key].format(**values)
