"""Paragraphs for perplexity, written for this project."""

PARAGRAPHS = """
A lighthouse is a tower that carries a bright lamp near the sea. Its light tells the captain of a ship where the land begins
and where the rocks are hidden under the water. In former times a keeper lived in the tower, trimmed the wick every evening and
wound the clockwork that turned the lens. Today most lamps are electric and switch themselves on when it grows dark, but the
towers are still painted in broad stripes, so that they can be told apart by day as well as by night.

To make a simple bread you need flour, water, salt and yeast. Mix the flour with the salt, dissolve the yeast in warm water, and
work both together until the dough is smooth. Cover the bowl with a cloth and leave it in a warm place for an hour. When the dough
has doubled in size, shape it into a loaf, let it rest for another half hour, and bake it in a hot oven until the crust is brown.
The bread is done when it sounds hollow if you knock on the bottom.

Rivers begin as small streams in the mountains, where rain and melting snow run together. As a stream flows down into the valley it
meets others and grows. The fast water of the upper course carries stones and sand along; where the land becomes flat, the river
slows down and drops what it has carried. Near the sea the sand builds up into islands and banks, and the river divides into many
arms. Such a place is called a delta, and its soil is usually very fertile.

A computer stores numbers as patterns of bits. A whole number of thirty-two bits can hold about four thousand million different
values, and every one of them is exact. Numbers with a fraction are harder, because there are infinitely many of them between any
two. The usual answer is to keep a fixed count of digits and an exponent that says where the point belongs. Most results must then
be rounded, and a long sum of rounded numbers can drift away from the true value, depending on the order in which it is added.

The old library stood at the end of the street, behind two chestnut trees. Every Saturday morning Anna walked there with her
grandfather, who read the newspapers by the window while she looked for a book about ships. The librarian knew them both by name.
One day in autumn the door was locked, and a note on it said that the roof had to be repaired. Anna was disappointed, but her
grandfather smiled and took a small book out of his coat. He had borrowed it the week before, and it was about pirates.

Bees live in large families. In the middle of the hive is the queen, who lays all the eggs. The workers build the comb from wax,
feed the young, keep the hive clean and fly out to gather nectar and pollen. When a worker has found a field full of flowers, she
returns and dances on the comb. The direction of the dance tells the others where to fly, and its speed tells them how far it is.
In winter the bees gather in a tight ball around the queen and keep her warm by moving their muscles.

A good test of a program is small, quick and clear. It says in its name what should happen, sets up only what it needs, and checks
one thing. When it fails, the reader should see at once what was expected and what came instead. A test that sometimes passes and
sometimes fails is worse than no test, because people learn to ignore it. If a result may vary a little, the test should say how
much variation is allowed and why, and it should fail when the variation is larger than that.

The train left the station at seven minutes past eight. It was raining, and the windows were covered with drops that ran backwards
as the train went faster. Across from me sat a man with a violin case on his knees. He did not read and he did not sleep; he only
moved the fingers of his left hand, as if he were playing. After an hour he looked up, said that it was the second movement that
worried him, and asked whether I would mind if he hummed it. I did not mind, and he hummed very well.

Glass is made from sand, soda and lime. The mixture is heated until it melts and becomes a thick, glowing liquid. In this state
it can be blown, pressed or rolled. If it cools too quickly, the outside becomes hard while the inside is still soft, and the glass
will break sooner or later. For this reason it is put in a special oven and cooled slowly over many hours. Coloured glass contains
small amounts of metal: iron makes it green, cobalt makes it blue, and gold makes it red.

In the game of chess two players move their pieces in turn on a board of sixty-four squares. Each side has a king, a queen, two
rooks, two bishops, two knights and eight pawns. The aim is to attack the king of the other side in such a way that he cannot
escape. Beginners often move the same piece again and again, or bring out the queen too early. It is usually better to place the
knights and bishops on good squares first, to bring the king into safety, and only then to begin an attack.

The heart is a muscle about the size of a fist. It beats roughly seventy times a minute and pumps the blood through two circuits.
The right half sends the blood to the lungs, where it gives off carbon dioxide and takes up oxygen. The left half receives the
fresh blood and drives it through the whole body. Valves between the chambers make sure that the blood flows only in one
direction. When we run, the muscles need more oxygen, and the heart beats faster and stronger.

A map shows the land from above and much smaller than it is. The scale tells how much smaller: on a map of one to fifty thousand,
one centimetre on paper stands for half a kilometre outside. Hills are drawn with lines that connect places of equal height. Where
the lines lie close together, the slope is steep; where they are far apart, the ground is almost flat. With a map and a compass a
walker can find the way even in fog, provided that he knows where he started and counts his steps.

Before there were clocks, people measured time by the sun. A stick in the ground throws a shadow that is long in the morning, short
at noon and long again in the evening. At night or under clouds this does not work, so they also used candles with marks, glasses
filled with sand, and bowls from which water dripped at a steady rate. The first clocks with wheels were built for church towers.
They had only one hand and went wrong by a quarter of an hour a day, but nobody in the town minded.

The committee met on Tuesday to discuss the new bridge. The engineer explained that the old one could carry no more than five tons
and that repairs would cost nearly as much as building again. A member asked how long the road would be closed. About eight months,
said the engineer, if the winter was mild. Another member wanted to know why the plans did not include a path for bicycles. The
chairwoman thanked everyone, asked for a second estimate, and moved the decision to the following month.

Salt was once so valuable that it was carried across deserts and mountains. Without it, meat and fish could not be kept through the
winter. Towns near the mines became rich, and their rulers took a toll on every cart that passed. Some roads still have the name of
the trade for which they were made. Today salt is cheap, and most of it is not eaten at all: it is spread on icy streets, or split
into its elements to make soap, paper and plastics.

When a stone is thrown into a pond, rings spread out from the place where it fell. The water itself does not travel with them; a
leaf on the surface only rises and sinks as a ring passes. What moves is the shape, and with it the energy. Sound is a wave of the
same kind, but in the air and in all directions at once. If two waves meet, they pass through each other. Where crest meets crest
the water rises higher, and where crest meets trough it stays almost level.
"""


def paragraphs() -> list[str]:
    """Each paragraph on one line."""
    return [" ".join(paragraph.split()) for paragraph in PARAGRAPHS.strip().split("\n\n")]
