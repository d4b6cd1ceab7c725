"""The mailbox: newest wins, fair to all, never blocks who delivers."""

import threading

from cnn_perception.ros.newest import Letter, Mailbox


def letter(camera, number):
    return Letter(camera, number, number)


def test_the_newest_wins_and_what_it_replaces_is_told():
    mailbox = Mailbox()
    assert [mailbox.put(letter('', number)) for number in range(4)] == [False, True, True, True]
    assert [mail.message for mail in mailbox.take()] == [3]
    assert mailbox.put(letter('', 5)) is False


def test_all_cameras_are_taken_together_however_fast_one_is():
    mailbox = Mailbox()
    for number in range(60):
        mailbox.put(letter('fast', number))
        if number % 12 == 0:
            for slow in range(7):
                mailbox.put(letter(f'slow{slow}', number))
    taken = {mail.camera: mail.message for mail in mailbox.take()}
    assert taken == {'fast': 59, **{f'slow{slow}': 48 for slow in range(7)}}


def test_the_camera_whose_image_waits_longest_is_served_first():
    mailbox = Mailbox()
    for camera, number in (('a', 1), ('b', 2), ('a', 3)):
        mailbox.put(letter(camera, number))
    assert [mail.message for mail in mailbox.take()] == [2, 3]


def test_nothing_comes_out_of_a_closed_mailbox():
    mailbox = Mailbox()
    mailbox.close()
    mailbox.put(letter('', 1))
    assert mailbox.take() == []


def test_close_wakes_the_worker():
    mailbox = Mailbox()
    taken = []
    worker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    worker.start()
    mailbox.close()
    worker.join(5.0)
    assert taken == [[]]
