"""Ten policies judged by Cedar. Reads policies and requests as JSON, then on each line how and for how many
seconds to judge them; answers with a rate.

Cedar answers allow or deny, so a verdict of three kinds takes up to two questions: may it go by itself, and if not,
may it go with approvals. Sums and counts are handed to it ready, which spares it the work of finding them.
"""

import json
import sys
import time

import cedarpy


def main() -> None:
    """Answer until the input ends."""
    given = json.loads(sys.stdin.readline())
    policies = cedarpy.PolicySet.from_str(given["policies"])
    entities = cedarpy.Entities.from_json_str("[]")
    requests = [
        [
            {"principal": 'User::"a"', "action": f'Action::"{action}"', "resource": 'Wallet::"w"', "context": context}
            for action in ("autopay", "pay")
        ]
        for context in given["requests"]
    ]

    def judge(number: int) -> str:
        alone, approved = requests[number]
        if cedarpy.is_authorized(alone, policies, entities).allowed:
            return "allow"
        return "hold" if cedarpy.is_authorized(approved, policies, entities).allowed else "block"

    def one_by_one() -> None:
        for number in range(len(requests)):
            judge(number)

    everything = [each for pair in requests for each in pair]

    def together() -> None:
        cedarpy.is_authorized_batch(everything, policies, entities)

    print(json.dumps([judge(number) for number in range(len(requests))]), flush=True)
    for line in sys.stdin:
        how, seconds = line.split()
        work, done, began = {"one": one_by_one, "batch": together}[how], 0, time.perf_counter()
        while time.perf_counter() - began < float(seconds):
            work()
            done += len(requests)
        print(json.dumps(done / (time.perf_counter() - began)), flush=True)


if __name__ == "__main__":
    main()
