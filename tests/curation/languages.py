"""Prose in several languages, model-written: eight sentences each, on a village, of which documents are made."""

import random

SENTENCES = {
    "german": [
        "Der Fluß führte im Frühling viel Wasser, und die Leute im Dorf sahen jeden Morgen nach dem Pegel.",
        "Am Markt verkaufte eine alte Frau Äpfel, Birnen und den Honig ihrer Bienen.",
        "Niemand wußte genau, wann die Brücke gebaut worden war, aber alle benutzten sie täglich.",
        "Im Winter gefror der Teich, und die Kinder liefen darauf Schlittschuh bis zur Dämmerung.",
        "Die Schule lag auf einem Hügel, von dem aus man das ganze Tal überblicken konnte.",
        "Abends saßen die Männer vor dem Gasthaus und sprachen über das Wetter.",
        "Ein Wanderer kam aus dem Norden und erzählte Geschichten von fernen Städten.",
        "Die Mühle mahlte seit hundert Jahren das Korn der umliegenden Höfe.",
    ],
    "japanese": [
        "春になると川の水が増え、村の人々は毎朝水位を確かめに出かけた。",
        "市場では年老いた女性がりんごや梨、そして自分の蜂の蜜を売っていた。",
        "橋がいつ建てられたのか誰も正確には知らなかったが、皆が毎日渡っていた。",
        "冬には池が凍り、子供たちは夕暮れまでその上で滑って遊んだ。",
        "学校は丘の上にあり、そこからは谷全体を見渡すことができた。",
        "夜になると男たちは宿屋の前に座り、天気について話し合った。",
        "北から来た旅人は、遠い町の物語を語って聞かせた。",
        "水車小屋は百年前から周りの農家の麦を挽いてきた。",
    ],
    "greek": [
        "Την άνοιξη το ποτάμι είχε πολύ νερό και οι άνθρωποι του χωριού κοίταζαν κάθε πρωί τη στάθμη.",
        "Στην αγορά μια γριά γυναίκα πουλούσε μήλα, αχλάδια και το μέλι από τις μέλισσές της.",
        "Κανείς δεν ήξερε πότε χτίστηκε η γέφυρα, αλλά όλοι την περνούσαν κάθε μέρα.",
        "Τον χειμώνα η λίμνη πάγωνε και τα παιδιά έπαιζαν πάνω της ως το βράδυ.",
        "Το σχολείο ήταν σε έναν λόφο από όπου φαινόταν όλη η κοιλάδα.",
        "Τα βράδια οι άντρες κάθονταν μπροστά στο πανδοχείο και μιλούσαν για τον καιρό.",
        "Ένας ταξιδιώτης ήρθε από τον βορρά και έλεγε ιστορίες για μακρινές πόλεις.",
        "Ο μύλος άλεθε εδώ και εκατό χρόνια το σιτάρι των γύρω αγροκτημάτων.",
    ],
}


def document(language: str, seed: int = 0, count: int = 7) -> str:
    """Return so many of a language's sentences in a new order, in paragraphs of three."""
    order = random.Random(seed).sample(SENTENCES[language], count)
    return "\n\n".join(" ".join(order[i : i + 3]) for i in range(0, count, 3)) + "\n"
