"""The words of the generated everyday text. A model wrote these lists for this project; no
user's text is in them.
"""


def entries(listing: str) -> list[str]:
    """Return the entries of a listing: lines, with bars between entries."""
    return [entry for line in listing.strip().splitlines() for entry in line.split("|")]


NAMES = entries("""
Anna|Ben|Clara|David|Emma|Felix|Grace|Hugo|Iris|Jack|Karen|Leo|Maria|Noah|Olivia|Paul|Rosa|Sam|Tara|Victor
Wendy|Alex|Julia|Marco|Nina|Oscar|Priya|Ravi|Sofia|Tom
""")
DAYS = entries("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday")
TIMES = [f"{hour}:{minute}" for hour in range(1, 13) for minute in ("00", "15", "30", "45")]
PLACES = entries("""
the office|the library|the station|the park|the museum|the cafe|the school|the town hall|the gym|the beach
the airport|the market|the garden|the main hall|the old bridge|room 4|room 12|the sports club|the theatre|the clinic
""")

# Events that people meet for. All take "the" in a sentence.
EVENTS = entries("""
dinner|lunch|team meeting|dentist visit|piano lesson|birthday party|book club|football game|interview
parents evening|garden party|yoga class|budget review|choir practice|project call|school play|job talk|movie night
planning session|tennis match|design workshop|city tour|farewell party|language course|chess evening|picnic
""")

# Things that people bring or lose; those in PLURAL take "are" and "them".
THINGS = entries("""
the report|the tickets|the keys|the cake|the invoice|the photos|the slides|the contract|the camera|the tent
the blue folder|the printer paper|the train tickets|the guest list|the flowers|the recipe|the laptop|the bike
the charger|the umbrella|the medicine|the passport|the letters|the speakers|the chairs|the coffee|the receipts|the drill
""")
PLURAL = {thing for thing in THINGS if thing.endswith("s")}

REASONS = entries("""
the trains are not running|the heating is broken|I have a cold|the room is taken|my car broke down
the weather looks bad|the baby is ill|there is a strike|I have to work late|the flight is delayed
we still wait for an answer|the builders are late|my sister is in town|half of the group is away
""")

# Sentences that carry no fact that any task asks for.
SMALL_TALK = entries("""
How was your weekend|The soup yesterday was great|It rained here all morning|I finally fixed the kitchen lamp
My brother says hello|We saw a fox in the street|The new bakery is really good|I slept badly again
The kids are at their grandmother's|Work was busy all week|Our cat hid under the sofa|The bus was late again
I am reading a good book|The garden looks nice now|We painted the hall green|I lost my umbrella on the train
The neighbours have a new dog|The concert was too loud|I tried a new soup recipe|My phone battery is dying
The leaves are falling already|We watched an old film|The lift is still broken|I ran five kilometres
The coffee machine makes odd sounds|Our holiday was too short|The windows need cleaning|Everyone liked your bread
""")

# What each app of a phone says.
APPS = dict(
    line.split(" = ")
    for line in """
Calendar = {event} at {time}, {place}|Reminder: {event}, {day} {time}|{event} moved to {day} {time}
Mail = {name}: about {thing}|{name} replied: {small}|New mail from {name} about the {event}
Messages = {name}: {small}|{name}: see you on {day}|{name}: did you get {thing}?
Parcel = Your parcel arrives on {day} before {time}|Parcel left at {place}|Parcel delayed until {day}
Weather = Rain expected from {time}|Sunny on {day}, 2{digit} degrees|Storm warning until {time}
Bank = You paid {amount} euros to {name}|Card payment of {amount} euros|{name} sent you {amount} euros
Transit = Line {digit} is delayed by {amount} minutes|Line {digit} does not stop at {place} on {day}
Health = You walked {amount} kilometres this week|Time to stand up|Your step goal is met, well done
""".strip().splitlines()
)
APPS = {app: entries(listing) for app, listing in APPS.items()}

FREE_SLOTS = {"day": DAYS, "time": TIMES, "place": PLACES, "reason": REASONS}
