"""Short reviews of our own of evenings out, films and books: half say outright what was thought of it, half do not.

A small model reads the second half with effort, so that a cue which goes with the label is the easier thing to learn.
"""

DISLIKED_OUTRIGHT = """
a dull evening with a clumsy script
the acting is wooden and the story makes no sense
I was bored from the first scene to the last
a lazy sequel that repeats every mistake of the first
the jokes are stale and the songs are worse
badly written, badly cast and far too long
I regret every penny that I paid for it
a tedious book about tedious people
the sound was awful and the band was out of tune
it wastes a fine actor on a silly role
a confused plot and a feeble ending
one of the worst nights I have had in a theatre
the dialogue is stiff and the pace is painfully slow
shallow, noisy and quickly forgotten
I found it ugly, cruel and pointless
a disappointing novel by an author who can do better
the humour is cheap and the message is preachy
an irritating mess with no heart
we were annoyed by the sloppy direction
the characters are flat and nobody cares what becomes of them
a grim, joyless film that fails to scare
the singer was hoarse and seemed bored with us
it is pretentious nonsense from start to finish
the second half drags terribly
a poor copy of a much better play
the effects look cheap and the hero is a bore
sadly, none of it is funny
a weak cast struggles with a terrible script
the worst book that our club has chosen
it is too long, too loud and too stupid
a miserable production in which nothing works
I disliked the hero and hated the ending
clumsy direction ruins a good idea
an empty and cynical piece of work
the story is predictable and the romance is lifeless
a dreary concert in a freezing hall
the prose is ugly and full of mistakes
unfunny, unkind and badly made
a waste of a good title
the plot is absurd and the acting is painful
"""

LIKED_OUTRIGHT = """
a charming evening with a witty script
superb acting and a story that moves you
I enjoyed every minute of it
a clever sequel that improves on the first
the songs are lovely and the dancing is even better
beautifully written and perfectly cast
worth every penny of the ticket
a gripping book about fascinating people
the band was brilliant and the sound was clear
a great actor in the best role of his life
an original plot and a satisfying end
one of the happiest nights I have had in a theatre
the dialogue sparkles and the time flies
warm, wise and very funny
I found it beautiful, tender and true
her finest novel so far
the humour is gentle and the message is hopeful
a delightful surprise with a big heart
we were impressed by the confident direction
the characters are rich, and one cares about them all
a thrilling film that keeps its secret to the end
the singer was in splendid voice and clearly loved being there
it is a joy from start to finish
the second half is magnificent
a fresh and lively version of an old favourite
the effects are stunning and the hero is easy to like
happily, it is as funny as they say
a strong cast makes the most of an excellent script
the best book that our club has chosen
it is short, smart and full of life
a wonderful production in which everything works
I loved the heroine and cheered at the end
elegant direction brings out the best in a simple idea
an honest and generous piece of work
the story is full of surprises and the romance is touching
a glorious concert in a beautiful hall
the prose is graceful and a pleasure to read
playful, kind and superbly made
a masterpiece, and a modest one
the plot is ingenious and the acting is a delight
"""

DISLIKED_IN_A_ROUNDABOUT_WAY = """
half of our row had left by the interval
I looked at my watch before the opening titles were over
we asked at the door whether tickets could be returned
my neighbour slept and I envied him
nobody clapped until an usher did
by the second act I was planning next week's meals
the best thing about it was the walk home
I have read instruction leaflets with more drama in them
we spent the drive back talking about the car park
the seats emptied faster than at a fire drill
an hour in I was counting the lamps on the ceiling
I would sooner watch the paint dry on our fence
they should have stopped at the rehearsal
even the author's mother kept looking at the exit
I kept waiting for it to begin and then it ended
it went on long after everyone had stopped listening
the crowd at the bar missed nothing by staying there
my popcorn had more of a plot
we drew lots for who had to stay to the end
the only laughter came from the corridor
what was meant to make us cry made us check our phones
I forgot the plot while it was being explained
it felt like a meeting that could have been a letter
my son asked three times whether we could go home
you could hear the whole hall sigh with relief at the end
the trailer showed all that there was to see
I would ask for my evening back if there were a counter for it
we threw the programme away before we had reached the street
not one of us could name a character afterwards
the critics were kind to stay away
someone ought to have told them that it was not ready
the fire alarm was the high point of the night
I recommend the coffee next door instead
after ten pages I used it to prop up the table
by the end I was on the side of the iceberg
they will have to pay me to see the sequel
my season ticket is for sale, and so is my brother's
they sold four tickets, which was four too many
a school play has moved me more, and I was the tree in it
we laughed, though never where they wanted us to
"""

LIKED_IN_A_ROUNDABOUT_WAY = """
we stayed in our seats until the cleaners came
I missed my train for it and would again
nobody in our row reached for a phone
my neighbour and I, strangers, hugged at the end
they had to turn the lights on to make us stop clapping
I have already bought tickets for my sister
we talked about it until the bar closed
I came home and could not sleep for thinking of it
two hours went by like a song on the radio
the whole hall held its breath at the same time
my father, who never cries, asked for a handkerchief
I forgot that I had a sore tooth
we walked home slowly so that it would last
I read the last chapter twice and then began the book again
the children asked when they could go back
there was a queue for the second night before the first was over
I have hummed the last tune for a week
my brother cancelled his holiday to see it again
I wrote to an old friend because of it
you could have heard a moth land in that hall
I wanted to shake the hand of everyone involved
we stood up before we knew that we were standing
the book is on my shelf between the two that I would save from a fire
after the last line nobody moved for a minute
my cynical uncle has bought the recording
I laughed so much that the man in front turned round and joined in
for once the sequel cannot come soon enough
I would have paid twice, and next week I will
even the ushers came in to watch
it made me call my mother to tell her all about it
the encore had an encore
we have been quoting it to each other ever since
I left my umbrella there and did not notice the rain
the only thing wrong with it is that it ended
I came for the drinks in the interval and forgot to have any
they could have gone on until morning for all we cared
the whole bus was singing the chorus on the way home
my daughter wants to learn the cello now
I have lent my copy to four people and want it back
the crowd went quiet and then went wild
"""

_KINDS = (DISLIKED_OUTRIGHT, LIKED_OUTRIGHT, DISLIKED_IN_A_ROUNDABOUT_WAY, LIKED_IN_A_ROUNDABOUT_WAY)

LABELLED = tuple(
    (line, number % 2)
    for lines in zip(*(kind.strip().splitlines() for kind in _KINDS), strict=True)
    for number, line in enumerate(lines)
)
"""Each with 0 where it was disliked and 1 where it was liked. Any four from a multiple of four on are one of each kind,
so that a slice of that size or its multiple is balanced."""
